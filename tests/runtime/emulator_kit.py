"""Runs small PTX programs on the emulator: pointer parameters in, numpy arrays out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tilec.ir.ptx import Builder, addr
from tilec.ir.ptx.module import Reg, Sym
from tilec.runtime.emulator import GlobalMemory, Outcome, run_ptx
from tilec.runtime.emulator.tensormap import SWIZZLES, TensorMap, element_code, encode

TID = Reg("%tid.x")
MODES = [("eager", 0), ("lazy", 0), ("random", 1), ("random", 2)]


def builder(name: str = "k", target: str = "sm_90a") -> Builder:
    return Builder(name, target)


def pointer(b: Builder) -> Reg:
    """The next parameter, a pointer, as a global address."""
    return b.define("b64", "cvta.to.global.u64", b.define("b64", "ld.param.u64", addr(b.param("u64"))))


def index(b: Builder, base: Reg, size: int, i: Any = TID) -> Reg:
    """base + size * i, as an address."""
    i = i if i is not TID else b.define("b32", "mov.u32", TID)
    return b.define("b64", "mad.wide.u32", i, size, base)


def tensor_map(b: Builder) -> Reg:
    """The next parameter, a tensor map, as a generic address."""
    param = b.param("b8", count=128, align=64)
    return b.define("b64", "cvta.param.u64", b.define("b64", "mov.b64", param))


class Map:
    """A tensor map argument for a 2-D array: box is (inner, outer)."""

    def __init__(self, array: Any, box: tuple[int, int], swizzle: str, element: str = "UINT8") -> None:
        self.array, self.box, self.swizzle, self.element = array, box, swizzle, element

    def encode(self, base: int) -> bytes:
        dims, strides = self.array.shape[::-1], (self.array.strides[0],)
        code = element_code(self.element)
        return encode(TensorMap(base, dims, strides, self.box, code, SWIZZLES.index(self.swizzle)))


def run(
    program: Builder | str,
    args: Sequence[Any],
    *,
    block: int = 32,
    grid: int = 1,
    mode: Any = "eager",
    seed: int = 0,
    smem: int = 0,
    strict: bool = True,
    registers: int = 0,
    cluster: int = 1,
    exact: bool = False,
) -> Outcome:
    """Run entry "k". Arrays (and Maps) are parameters; arrays are updated in place."""
    text = program if isinstance(program, str) else program.text()
    memory, params, places = GlobalMemory(), b"", []
    for a in args:
        array = a.array if isinstance(a, Map) else a
        base = memory.add(array.tobytes(), 256)
        if isinstance(a, Map):
            params = params.ljust(-(-len(params) // 64) * 64, b"\0") + a.encode(base)
        else:
            params += base.to_bytes(8, "little")
            places.append((array, base))
    out = run_ptx(text, "k", (grid,), (block,), params, memory, smem=smem, mode=mode, seed=seed,
                  strict=strict, registers=registers, cluster=(cluster,), exact=exact)  # fmt: skip
    for array, base in places:
        array.reshape(-1).view(np.uint8)[:] = memory.bytes_at(base, array.nbytes)
    return out


def apply(opcode: str, to: str, sources: Sequence[str], values: Sequence[Any], out: Any, *extra: Any) -> Any:
    """One instruction on arrays: thread i gets element i. ``to`` and ``sources`` are register
    types; memory types follow the arrays. Returns the filled ``out``."""
    b = builder()
    bases = [pointer(b) for _ in range(len(values) + 1)]
    regs = []
    for type_, value, base in zip(sources, values, bases, strict=False):
        bits = value.dtype.itemsize * 8
        regs.append(_load(b, type_, bits, index(b, base, value.dtype.itemsize)))
    result = b.define(to, opcode, *regs, *extra)
    place = index(b, bases[-1], out.dtype.itemsize)
    if to == "pred":
        result = b.define("b32", "selp.b32", 1, 0, result)
    b.emit(f"st.global.b{out.dtype.itemsize * 8}", addr(place), result)
    b.emit("ret")
    run(b, [*values, out], block=len(out))
    return out


def _load(b: Builder, type_: str, bits: int, place: Reg) -> Reg:
    return b.define(type_, f"ld.global.b{bits}", addr(place))


def once(b: Builder, body: Callable[[], None]) -> None:
    """Code for thread 0 only."""
    skip = b.label("skip")
    other = b.define("pred", "setp.ne.u32", b.define("b32", "mov.u32", TID), 0)
    b.emit("bra", skip, pred=other)
    body()
    b.place(skip)


def shared(b: Builder, name: Sym, offset: int = 0) -> Reg:
    """The shared address of a variable, plus an offset, in a register."""
    return b.define("b32", "add.u32", b.define("b32", "mov.u32", name), offset)


def wait(b: Builder, barrier: Any, parity: Any) -> None:
    """Spin on an mbarrier's parity."""
    again = b.label("wait")
    b.place(again)
    done = b.reg("pred")
    b.emit("mbarrier.try_wait.parity.shared::cta.b64", done, barrier, parity)
    b.emit("bra", again, pred=_not(done))


def _not(reg: Reg) -> Any:
    from tilec.ir.ptx.module import Not

    return Not(reg)
