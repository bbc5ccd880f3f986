"""Emit rule of `reduce`: within a thread, then over lanes, then over warps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tilec.backends.ptx.arith import extreme
from tilec.backends.ptx.context import Emitter, Fragment, Rule
from tilec.backends.ptx.coords import inside, thread_coord
from tilec.backends.ptx.exchange import read, write
from tilec.backends.ptx.numeric import bits, compute_type, constant, narrow, widen
from tilec.ir.core import Op
from tilec.ir.layout import Basis, Layout, pad_shape
from tilec.ir.ptx.module import Int, Reg
from tilec.ir.types import DType, dtype_of, int32

# What is combined: (value,), or (value, index) for argmax and argmin.
State = tuple[Reg, ...]
ALL_LANES = -1
NO_INDEX = 2**31 - 1


@dataclass(frozen=True)
class Reduction:
    """A reduction of elements of ``dtype`` that are held in ``wide`` while combined."""

    kind: str
    dtype: DType
    wide: DType

    @property
    def indexed(self) -> bool:
        return self.kind.startswith("arg")

    def neutral(self) -> float | int:
        """What changes no result."""
        simple = {"sum": 0, "prod": 1, "any": 0, "all": 1, "xor_sum": 0}
        if self.kind in simple:
            return simple[self.kind]
        largest = self.kind.endswith("min")
        if self.wide.is_float:
            return float("inf") if largest else float("-inf")
        low = -(1 << self.wide.bits - 1) if self.wide.kind == "int" else 0
        return low + (1 << self.wide.bits) - 1 if largest else low

    def combine(self, e: Emitter, a: State, b: State) -> State:
        if self.indexed:
            return self._better(e, a, b)
        if self.kind in ("max", "min"):
            return (extreme(self.kind)(e, self.wide, a[0], b[0]),)
        typed, plain = compute_type(self.wide), bits(self.wide)
        rounding = ".rn" if self.wide.is_float else ""
        opcode = {
            "sum": f"add{rounding}.{typed}", "prod": f"mul{rounding or '.lo'}.{typed}",
            "any": f"or.{plain}", "all": f"and.{plain}", "xor_sum": f"xor.{plain}",
        }[self.kind]  # fmt: skip
        return (e.make(plain, opcode, a[0], b[0]),)

    def _better(self, e: Emitter, a: State, b: State) -> State:
        """The larger (smaller) value, NaN before all, the lower index among equals."""
        t, test = compute_type(self.wide), "gt" if self.kind == "argmax" else "lt"
        wins = e.make("pred", f"setp.{test}.{t}", b[0], a[0])
        equal = e.make("pred", f"setp.eq.{t}", b[0], a[0])
        if self.wide.is_float:
            a_nan, b_nan = (e.make("pred", f"setp.nan.{t}", x, x) for x in (a[0], b[0]))
            only_b = e.make("pred", "and.pred", e.make("pred", "not.pred", a_nan), b_nan)
            wins = e.make("pred", "or.pred", wins, only_b)
            equal = e.make("pred", "or.pred", equal, e.make("pred", "and.pred", a_nan, b_nan))
        earlier = e.make("pred", "setp.lt.and.s32", b[1], a[1], equal)
        wins = e.make("pred", "or.pred", wins, earlier)
        value, index = bits(self.wide), "b32"
        return (
            e.make(value, f"selp.{value}", b[0], a[0], wins),
            e.make(index, "selp.b32", b[1], a[1], wins),
        )


def _reduce(e: Emitter, op: Op) -> None:
    source, axis = e.fragment(op.args[0]), op.attrs["axis"]
    r = Reduction(op.attrs["kind"], source.dtype, _wide(source.dtype))
    layout = source.layout.drop(axis)
    states = _in_thread(e, r, source, axis, layout)
    for bit, basis in enumerate(source.layout.lane):
        if basis[axis]:
            states = [
                r.combine(e, s, tuple(_shuffled(e, r, x, i, bit) for i, x in enumerate(s))) for s in states
            ]
    if any(b[axis] for b in source.layout.warp):
        states = _over_warps(e, r, source, axis, layout, states)
    e.bind_regs(op.result, [_finish(e, r, s) for s in states])


def _wide(dtype: DType) -> DType:
    if dtype.kind == "bool":
        return int32
    if dtype.is_float:
        return dtype if dtype.bits == 64 else dtype_of("float32")
    return dtype_of(f"{dtype.kind}{max(dtype.bits, 32)}")


def _in_thread(e: Emitter, r: Reduction, source: Fragment, axis: int, layout: Layout) -> list[State]:
    """One state for each register of the result's layout."""
    parts: dict[Basis, list[State]] = {c: [] for c in layout.register_coords()}
    for reg, coords in zip(source.regs, source.layout.register_coords(), strict=True):
        state = _element(e, r, source, axis, coords, reg)
        if state is not None:
            parts[coords[:axis] + coords[axis + 1 :]].append(state)
    return [_tree(e, r, states) for states in parts.values()]


def _element(e: Emitter, r: Reduction, source: Fragment, axis: int, coords: Basis, reg: Reg) -> State | None:
    """The state of one element: neutral in the padding, None where a register is all padding."""
    extents = [
        s if i == axis else p for i, (s, p) in enumerate(zip(source.shape, source.layout.shape, strict=True))
    ]
    ok = inside(e, source.layout, extents, coords)
    if ok is False:
        return None
    value = _widen(e, r, reg)
    if isinstance(ok, Reg):
        kind = bits(r.wide)
        value = e.make(kind, f"selp.{kind}", value, constant(e, r.wide, r.neutral()), ok)
    if not r.indexed:
        return (value,)
    at = thread_coord(e, source.layout, axis)
    index = (
        constant(e, int32, coords[axis]) if at is None else e.make("b32", "add.s32", at, Int(coords[axis]))
    )
    return value, e.make("b32", "selp.b32", index, Int(NO_INDEX), ok) if isinstance(ok, Reg) else index


def _widen(e: Emitter, r: Reduction, reg: Reg) -> Reg:
    if r.dtype.kind == "bool":
        return e.make("b32", "selp.b32", Int(1), Int(0), reg)
    return widen(e, r.dtype, reg)


def _tree(e: Emitter, r: Reduction, states: Sequence[State]) -> State:
    """Pairwise: shorter chains, and a smaller error of sums."""
    while len(states) > 1:
        pairs = [r.combine(e, a, b) for a, b in zip(states[::2], states[1::2], strict=False)]
        states = [*pairs, *([states[-1]] if len(states) % 2 else [])]
    return states[0]


def _shuffled(e: Emitter, r: Reduction, x: Reg, index: int, bit: int) -> Reg:
    """The same part of the state of the lane whose number differs in one bit."""
    wide = int32 if index else r.wide
    if wide.bits == 32:
        return e.make(bits(wide), "shfl.sync.bfly.b32", x, Int(1 << bit), Int(31), Int(ALL_LANES))
    low, high = e.reg("b32"), e.reg("b32")
    e.emit("mov.b64", (low, high), x)
    moved = [
        e.make("b32", "shfl.sync.bfly.b32", half, Int(1 << bit), Int(31), Int(ALL_LANES))
        for half in (low, high)
    ]
    return e.make(bits(wide), "mov.b64", moved)


def _over_warps(
    e: Emitter, r: Reduction, source: Fragment, axis: int, layout: Layout, states: list[State]
) -> list[State]:
    """Every thread reads the states of all warps and combines them."""
    spread = _warps_as_axis(source.layout, axis, layout)
    parts = spread.shape[0]
    together = layout.unsqueeze(0).expand(0, parts)
    shape = (parts, *pad_shape(source.shape[:axis] + source.shape[axis + 1 :]))
    places = ((r.wide, e.scratch()), (int32, e.scratch() + math.prod(shape) * r.wide.bytes))
    e.sync()
    for column, (dtype, start) in zip(zip(*states, strict=True), places, strict=False):
        write(e, dtype, spread, shape, column, start)
    e.sync()
    found = [read(e, dtype, together, shape, start) for dtype, start in places[: len(states[0])]]
    grouped: dict[Basis, list[State]] = {c: [] for c in layout.register_coords()}
    for coords, state in zip(together.register_coords(), zip(*found, strict=True), strict=True):
        grouped[coords[1:]].append(state)
    return [_tree(e, r, s) for s in grouped.values()]


def _warps_as_axis(source: Layout, axis: int, layout: Layout) -> Layout:
    """The result's layout with a new first axis that numbers the warps along the reduced one."""
    spread = [b[axis] for b in source.warp if b[axis]]
    place = {value: 1 << i for i, value in enumerate(spread)}
    warp = tuple((place.get(s[axis], 0), *b) for s, b in zip(source.warp, layout.warp, strict=True))
    shape = (1 << len(spread), *layout.shape)
    return Layout(shape, tuple((0, *b) for b in layout.reg), tuple((0, *b) for b in layout.lane), warp)


def _finish(e: Emitter, r: Reduction, state: State) -> Reg:
    if r.indexed:
        return state[1]
    if r.dtype.kind == "bool":
        return e.make("pred", "setp.ne.s32", state[0], Int(0))
    return narrow(e, r.dtype, state[0])


RULES: dict[str, Rule] = {"reduce": _reduce}
