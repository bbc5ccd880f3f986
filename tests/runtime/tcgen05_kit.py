"""Small sm_100a kernels: bytes to shared memory, tensor-core work by one thread, tensor memory out.

In a pair of CTAs (group 2) all arrays have a leading axis of two, one part for each CTA.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from emulator_kit import TID, index, once, pointer, run, shared, wait

from tilec.ir.ptx import Builder, addr
from tilec.ir.ptx.module import Reg
from tilec.runtime.emulator import Outcome

# Bytes of a span and the mode field of a descriptor.
MODES = {"none": (16, 0), "32B": (32, 6), "64B": (64, 4), "128B": (128, 2), "128B/32B": (128, 1)}


def descriptor(start: int, lbo: int, sbo: int, swizzle: str) -> int:
    return start >> 4 | lbo >> 4 << 16 | sbo >> 4 << 32 | 1 << 46 | MODES[swizzle][1] << 61


def swizzled(rows: Any, swizzle: str) -> Any:
    """The bytes of rows of one span each, as a swizzled copy would leave them at address 0."""
    span = MODES[swizzle][0]
    flat = np.ascontiguousarray(rows).view(np.uint8).reshape(-1)
    assert rows.shape[1] * rows.itemsize == span
    address = np.arange(flat.size)
    out = np.empty_like(flat)
    out[address ^ ((address >> 7 & {32: 1, 64: 3, 128: 7}[span]) << 4)] = flat
    return out


def core_matrices(rows: Any) -> Any:
    """Without a swizzle: 8 rows of 16 bytes together, then the next 8 rows, then the next 16 bytes."""
    raw = np.ascontiguousarray(rows).view(np.uint8)
    return raw.reshape(len(raw) // 8, 8, -1, 16).transpose(2, 0, 1, 3).reshape(-1)


def instruction(m: int, n: int, d: int, a: int, b: int, **bits: int) -> int:
    """An instruction descriptor; ``bits`` are turn_a, turn_b, negate_a, negate_b, saturate, and for
    scaled kinds id_a, id_b, ue8m0."""
    at = {"saturate": 3, "negate_a": 13, "negate_b": 14, "turn_a": 15, "turn_b": 16, "ue8m0": 23, "id_b": 4,
          "id_a": 29}  # fmt: skip
    word = d << 4 | a << 7 | b << 10 | n >> 3 << 17 | m >> 4 << 24
    return word | sum(value << at[name] for name, value in bits.items())


class Bench:
    """128 threads. ``image`` names bytes that are copied to shared memory at a multiple of 1024."""

    def __init__(self, columns: int = 512, group: int = 1) -> None:
        self.b = b = Builder("k", "sm_100a")
        self.group, self.columns = f"cta_group::{group}", columns
        self.pair = group == 2
        self.arrays: list[Any] = []
        self.used = 0
        self.pool = b.shared("pool", -1, align=1024)
        self.bar, self.slot = b.shared("bar", 8), b.shared("slot", 4, type="b32", align=4)
        self.barrier, self.tid = shared(b, self.bar), b.define("b32", "mov.u32", TID)
        self.phase = 0
        self.rank = b.define("b32", "mov.u32", Reg("%cluster_ctarank"))
        once(b, lambda: b.emit("mbarrier.init.shared::cta.b64", addr(self.barrier), 1))
        self._warp0(lambda: b.emit(f"tcgen05.alloc.{self.group}.sync.aligned.shared::cta.b32",
                                   addr(shared(b, self.slot)), columns))  # fmt: skip
        self.sync()
        if self.pair:
            self.meet()
        self.tensor = b.define("b32", "ld.shared.b32", addr(self.slot))

    def _warp0(self, body: Callable[[], Any]) -> None:
        b = self.b
        skip, other = b.label("skip"), b.define("pred", "setp.ge.u32", self.tid, 32)
        b.emit("bra", skip, pred=other)
        body()
        b.place(skip)

    def sync(self) -> None:
        self.b.emit("bar.sync", 0)

    def meet(self) -> None:
        self.b.emit("barrier.cluster.arrive.aligned")
        self.b.emit("barrier.cluster.wait.aligned")

    def base(self, array: Any, stride: int) -> Reg:
        """The address of this thread's part of an array that becomes a parameter."""
        b = self.b
        self.arrays.append(array)
        whole = pointer(b)
        if self.pair:
            whole = b.define("b64", "mad.wide.u32", self.rank, array.nbytes // 2, whole)
        return index(b, whole, stride, self.tid)

    def image(self, data: Any) -> int:
        """Copy bytes to shared memory; their address relative to the pool."""
        b, parts = self.b, 2 if self.pair else 1
        raw = np.ascontiguousarray(data).view(np.uint8).reshape(parts, -1)
        raw = np.concatenate([raw, np.zeros((parts, -raw.shape[1] % 2048), np.uint8)], axis=1)
        size = raw.shape[1]
        start, self.used = self.used, self.used + size
        base = self.base(np.ascontiguousarray(raw), 16)
        to = b.define("b32", "mad.lo.u32", self.tid, 16, shared(b, self.pool, start))
        for step in range(0, size, 2048):
            four = b.regs("b32", 4)
            b.emit("ld.global.v4.b32", four, addr(base, step))
            b.emit("st.shared.v4.b32", addr(to, step), four)
        return start

    def ready(self) -> None:
        """What was copied is visible to the tensor core."""
        self.b.emit("fence.proxy.async.shared::cta")
        self.sync()
        if self.pair:
            self.meet()

    def describe(self, start: int, lbo: int, sbo: int, swizzle: str) -> Reg:
        """A descriptor register: the pool is at a multiple of 1024."""
        b = self.b
        place = b.define("b64", "cvt.u64.u32", shared(b, self.pool, start))
        return b.define(
            "b64", "add.u64", b.define("b64", "shr.u64", place, 4), descriptor(0, lbo, sbo, swizzle)
        )

    def cell(self, column: int, lane: int = 0) -> Any:
        return addr(self.tensor, column + (lane << 16))

    def issue(self, body: Callable[[], Any]) -> None:
        """One thread (of the pair) runs ``body`` and commits; all wait for it."""
        b = self.b
        commit = f"tcgen05.commit.{self.group}.mbarrier::arrive::one.shared::cluster"

        def act() -> None:
            body()
            if self.pair:
                both = b.define("b16", "mov.b16", 3)
                b.emit(f"{commit}.multicast::cluster.b64", addr(self.barrier), both)
            else:
                b.emit(f"{commit}.b64", addr(self.barrier))

        skip = b.label("follower")
        b.emit("bra", skip, pred=b.define("pred", "setp.ne.u32", self.rank, 0))
        once(b, act)
        b.place(skip)
        wait(b, addr(self.barrier), self.phase & 1)
        self.phase += 1
        b.emit("tcgen05.fence::after_thread_sync")

    def fill(self, value: int, column: int, count: int) -> None:
        """Words of all lanes become ``value``."""
        word = self.b.define("b32", "mov.b32", value)
        for at in range(column, column + count):
            self.b.emit("tcgen05.st.sync.aligned.32x32b.x1.b32", self.cell(at), (word,))
        self.b.emit("tcgen05.wait::st.sync.aligned")
        self.b.emit("tcgen05.fence::before_thread_sync")
        self.sync()
        self.b.emit("tcgen05.fence::after_thread_sync")

    def put(self, words: Any, column: int) -> None:
        """Words (128, count) go to columns."""
        b, count = self.b, words.shape[-1]
        base = self.base(words, 4 * count)
        for at in range(count):
            word = b.define("b32", "ld.global.b32", addr(base, 4 * at))
            b.emit("tcgen05.st.sync.aligned.32x32b.x1.b32", self.cell(column + at), (word,))
        b.emit("tcgen05.wait::st.sync.aligned")
        b.emit("tcgen05.fence::before_thread_sync")
        self.sync()
        b.emit("tcgen05.fence::after_thread_sync")

    def out(self, column: int, count: int) -> Any:
        """All lanes of some columns, as an array (128, count) of words that ``run`` fills."""
        b = self.b
        words = np.zeros((*(2,) * self.pair, 128, count), np.uint32)
        base = self.base(words, 4 * count)
        for at in range(count):
            word = b.reg("b32")
            b.emit("tcgen05.ld.sync.aligned.32x32b.x1.b32", (word,), self.cell(column + at))
            b.emit("tcgen05.wait::ld.sync.aligned")
            b.emit("st.global.b32", addr(base, 4 * at), word)
        b.emit("tcgen05.fence::before_thread_sync")
        return words

    def finish(self) -> None:
        b = self.b
        self.sync()
        if self.pair:
            self.meet()
        self._warp0(
            lambda: b.emit(f"tcgen05.dealloc.{self.group}.sync.aligned.b32", self.tensor, self.columns)
        )
        b.emit("ret")

    def run(self, mode: Any = "eager", seed: int = 0, **options: Any) -> Outcome:
        self.finish()
        size = 2 if self.pair else 1
        return run(self.b, self.arrays, block=128, grid=size, cluster=size, smem=self.used, mode=mode,
                   seed=seed, **options)  # fmt: skip


def halves(values: Any) -> Any:
    return values.astype(np.float16)


def mma(bench: Bench, kind: str, to: Any, a: Any, b: Any, idesc: int, keep: int, *rest: Any,
        mask: Sequence[Any] | None = None, suffix: str = "") -> None:  # fmt: skip
    """One product; ``rest`` are the scale addresses."""
    lanes = () if mask is None else (tuple(mask),)
    flag = bench.b.define("pred", "setp.ne.u32", keep, 0)
    word = bench.b.define("b32", "mov.b32", idesc)
    bench.b.emit(f"tcgen05.mma.{bench.group}.kind::{kind}{suffix}", to, a, b, word, *lanes, *rest, flag)
