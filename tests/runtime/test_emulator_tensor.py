"""TMA, swizzled shared memory, descriptors, wgmma and mma.sync against numpy."""

from __future__ import annotations

import itertools
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from emulator_kit import MODES, TID, Map, builder, index, once, pointer, run, shared, tensor_map, wait

from tilec.ir.ptx import addr, tensor_addr
from tilec.runtime.emulator import fragments, tensorcore, tensormap
from tilec.runtime.emulator.wgmma import decode_descriptor

RNG = np.random.default_rng(1)
SPAN = {"none": 16, "32B": 32, "64B": 64, "128B": 128}
FIELD = {"none": 0, "128B": 1, "64B": 2, "32B": 3}
LOAD = "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
STORE = "cp.async.bulk.tensor.2d.global.shared::cta.bulk_group"


def descriptor(start: int, lbo: int, sbo: int, swizzle: str) -> int:
    return (start & 0x3FFFF) >> 4 | (lbo >> 4) << 16 | (sbo >> 4) << 32 | FIELD[swizzle] << 62


@pytest.mark.parametrize("n", [8, 64, 128, 256])
def test_accumulator_fragment_is_a_bijection(n):
    row, col = fragments.accumulator(n)
    assert len({*zip(row.ravel().tolist(), col.ravel().tolist(), strict=True)}) == 64 * n
    assert row.max() == 63 and col.max() == n - 1


@pytest.mark.parametrize("bits, threads", list(itertools.product([8, 16, 32], [32, 128])))
def test_left_fragment_is_a_bijection(bits, threads):
    row, col = fragments.left(bits, threads)
    assert len({*zip(row.ravel().tolist(), col.ravel().tolist(), strict=True)}) == threads // 2 * 256 // bits


@pytest.mark.parametrize("bits", [8, 16, 32])
def test_right_fragment_is_a_bijection(bits):
    k, n = fragments.right(bits)
    assert len({*zip(k.ravel().tolist(), n.ravel().tolist(), strict=True)}) == 8 * 256 // bits


def test_accumulator_of_16_columns_is_the_next_left_operand():
    row, col = fragments.accumulator(16)
    a_row, a_col = fragments.left(16)
    assert (row == a_row).all() and (col == a_col).all()


def test_descriptors_that_other_compilers_emit():
    d = decode_descriptor(0x4000004000000000)
    assert (d.sbo, d.lbo, d.swizzle, d.start) == (1024, 0, 3, 0)
    d = decode_descriptor(0x8000002000000000)
    assert (d.sbo, d.swizzle) == (512, 2)
    assert decode_descriptor(descriptor(0x2400, 256, 1024, "128B")).start == 0x2400


def _read_back(swizzle: str, size: int, k_major: bool) -> Any:
    """What descriptors read from a box that TMA wrote, for all K steps of one span; and the
    box itself as (mn, k)."""
    span, rows = SPAN[swizzle], 64
    inner = span // size
    box = RNG.integers(0, 256, (rows, span), dtype=np.uint8).view(f"u{size}")
    memory = np.zeros(rows * span, np.uint8)
    level = tensormap.SWIZZLES.index(swizzle)
    units = tensormap.swizzled_units(0, rows * span, level)
    memory.reshape(-1, 16)[units] = np.ascontiguousarray(box).view(np.uint8).reshape(-1, 16)
    sbo, read = 8 * span, []
    steps = span // 32 if k_major else rows * size // 32
    for step in range(steps):
        start = 32 * step if k_major else step * (32 // size) // 8 * sbo
        mn = rows if k_major else inner
        where = tensorcore.operand_offsets(mn, size, 0, sbo, level, k_major, start & 1023) + (start & ~1023)
        assert len(np.unique(where)) == where.size
        read.append(memory.view(f"u{size}")[where // size])
    return np.concatenate(read, axis=1), box if k_major else box.T


@pytest.mark.parametrize("swizzle, size", list(itertools.product(["32B", "64B", "128B"], [1, 2, 4])))
def test_a_box_is_read_back_k_major(swizzle, size):
    got, box = _read_back(swizzle, size, True)
    assert (got == box).all()


@pytest.mark.parametrize("swizzle", ["32B", "64B", "128B"])
def test_a_box_is_read_back_mn_major(swizzle):
    got, box = _read_back(swizzle, 2, False)
    assert (got == box).all()


@pytest.mark.parametrize("swizzle", ["32B", "64B", "128B"])
def test_eight_rows_of_a_span_touch_all_banks(swizzle):
    level, span = tensormap.SWIZZLES.index(swizzle), SPAN[swizzle]
    for unit in range(span // 16):
        linear = np.arange(8) * span + unit * 16
        where = linear ^ ((linear >> 7 & (0, 1, 3, 7)[level]) << 4)
        assert len(set(where % 128)) == 8


@pytest.mark.parametrize("mode, seed", MODES)
@pytest.mark.parametrize("swizzle", SPAN)
def test_tma_copies_a_ragged_box(mode, seed, swizzle):
    """Load a box that hangs over the edge, store it elsewhere: inside copied, outside dropped."""
    span = SPAN[swizzle]
    source = RNG.integers(1, 256, (20, 48), dtype=np.uint8)
    out = np.zeros((20, 48), np.uint8)
    raw = np.full(16 * span, 9, np.uint8)
    b = builder()
    to_map, from_map, dump = tensor_map(b), tensor_map(b), pointer(b)
    tile, bar = b.shared("tile", 16 * span, align=1024), b.shared("bar", 8)
    barrier = shared(b, bar)
    once(b, lambda: b.emit("mbarrier.init.shared::cta.b64", addr(barrier), 1))
    b.emit("bar.sync", 0)
    place = shared(b, tile)

    def load():
        b.emit("mbarrier.arrive.expect_tx.shared::cta.b64", b.reg("b64"), addr(barrier), 16 * span)
        b.emit(LOAD, addr(place), tensor_addr(from_map, (-16, 9)), addr(barrier))

    once(b, load)
    wait(b, addr(barrier), 0)

    def store():
        b.emit(STORE, tensor_addr(to_map, (-16, 9)), addr(place))
        b.emit("cp.async.bulk.commit_group")
        b.emit("cp.async.bulk.wait_group.read", 0)

    once(b, store)
    lane = b.define("b32", "mov.u32", TID)
    for i in range(0, 16 * span // 128):
        word = b.define("b32", "ld.shared.b32", addr(b.define("b32", "mad.lo.u32", lane, 4, place), 128 * i))
        b.emit("st.global.b32", addr(index(b, dump, 4), 128 * i), word)
    b.emit("ret")
    maps = [Map(out, (span, 16), swizzle), Map(source, (span, 16), swizzle)]
    text_args = [*maps, raw]
    result = _run_with_target(b, text_args, out, mode, seed)
    want = np.zeros((16, span), np.uint8)
    inside = min(span - 16, 48)
    want[:11, 16 : 16 + inside] = source[9:20, :inside]
    units = tensormap.swizzled_units(0, 16 * span, tensormap.SWIZZLES.index(swizzle))
    assert (raw.reshape(-1, 16)[units].reshape(16, span) == want).all()
    expected = np.zeros((20, 48), np.uint8)
    expected[9:, :inside] = source[9:, :inside]
    assert (result == expected).all()


def _run_with_target(b: Any, args: list[Any], out: Any, mode: str, seed: int) -> Any:
    """Runs, and brings the memory behind the first tensor map back."""
    from emulator_kit import GlobalMemory, run_ptx

    memory, params, bases = GlobalMemory(), b"", []
    for a in args:
        array = a.array if isinstance(a, Map) else a
        bases.append(memory.add(array.tobytes()))
        params += a.encode(bases[-1]) if isinstance(a, Map) else bases[-1].to_bytes(8, "little")
    outcome = run_ptx(b.text(), "k", (1,), (32,), params, memory, mode=mode, seed=seed)
    assert not outcome.reports
    args[-1][:] = memory.bytes_at(bases[-1], args[-1].nbytes)
    return memory.bytes_at(bases[0], out.nbytes).reshape(out.shape)


TYPES = {
    "f16": (np.float16, "f32"), "bf16": (ml_dtypes.bfloat16, "f32"), "e4m3": (ml_dtypes.float8_e4m3fn, "f32"),
    "e5m2": (ml_dtypes.float8_e5m2, "f32"), "tf32": (np.float32, "f32"), "s8": (np.int8, "s32"),
}  # fmt: skip


def _values(shape: tuple[int, int], dtype: Any) -> Any:
    if dtype is np.int8:
        return RNG.integers(-128, 128, shape).astype(np.int8)
    x = RNG.integers(-8, 9, shape) / 4
    return x.astype(dtype)


def _product(type_: str, n: int, *, turn_b: bool = False, negate: bool = False, f16: bool = False,
             mode: str = "eager", seed: int = 0, in_registers: bool = False) -> tuple[Any, Any]:  # fmt: skip
    """One warpgroup multiplies a 64 x 128 B span by an n-column one, twice (D = AB + AB)."""
    dtype, result = TYPES[type_]
    result = "f16" if f16 else result
    size = np.dtype(dtype).itemsize
    k = 64 if turn_b else 128 // size
    a, b_np = _values((64, 128 // size), dtype), _values((n, k), dtype)
    stored_b = np.ascontiguousarray(b_np.T) if turn_b else b_np
    out = np.zeros((n // 2, 128), np.uint32)
    b = builder()
    a_map, b_map, a_global, to = tensor_map(b), tensor_map(b), pointer(b), pointer(b)
    a_bytes, b_bytes = 64 * 128, stored_b.nbytes
    tile, bar = b.shared("tile", a_bytes + b_bytes, align=1024), b.shared("bar", 8)
    barrier, base = shared(b, bar), shared(b, tile)
    once(b, lambda: b.emit("mbarrier.init.shared::cta.b64", addr(barrier), 1))
    b.emit("bar.sync", 0)
    b_place = b.define("b32", "add.u32", base, a_bytes)

    def load():
        b.emit("mbarrier.arrive.expect_tx.shared::cta.b64", b.reg("b64"), addr(barrier), a_bytes + b_bytes)
        b.emit(LOAD, addr(base), tensor_addr(a_map, (0, 0)), addr(barrier))
        b.emit(LOAD, addr(b_place), tensor_addr(b_map, (0, 0)), addr(barrier))

    once(b, load)
    count = n // 4 if f16 else n // 2
    d = b.regs("b32" if result != "f32" else "f32", count)
    wait(b, addr(barrier), 0)
    frag = _load_fragment(b, a_global, size) if in_registers else None
    b.emit("wgmma.fence.sync.aligned")
    true, false = b.define("pred", "setp.eq.u32", 0, 0), b.define("pred", "setp.ne.u32", 0, 0)
    for repeat, step in itertools.product(range(2), range(k * size // 32)):
        left: Any = frag[step] if frag else _descriptor(b, base, 32 * step, 1024)
        right = _descriptor(b, b_place, 2 * 1024 * step if turn_b else 32 * step, 1024)
        extra = [] if type_ == "s8" else [-1 if negate else 1, 1]
        if type_ in ("f16", "bf16"):
            extra += [int(turn_b)] if in_registers else [0, int(turn_b)]
        op = f"wgmma.mma_async.sync.aligned.m64n{n}k{32 // size}.{result}.{type_}.{type_}"
        b.emit(op, d, left, right, true if (repeat or step) else false, *extra)
    b.emit("wgmma.commit_group.sync.aligned")
    b.emit("wgmma.wait_group.sync.aligned", 0)
    lane = index(b, to, 4)
    for i, r in enumerate(d):
        b.emit("st.global.b32", addr(lane, 512 * i), r)
    b.emit("ret")
    maps = [
        Map(a.view(np.uint8), (128, 64), "128B"),
        Map(stored_b.view(np.uint8), (128, len(stored_b)), "128B"),
    ]
    outcome = run(b, [*maps, _fragment_memory(a, size), out], block=128, mode=mode, seed=seed)
    assert not outcome.reports
    wide = np.int64 if type_ == "s8" else np.float64
    want = 2 * a[:, :k].astype(wide) @ b_np.astype(wide).T * (-1 if negate else 1)
    return _assemble(out, n, result), want


def _descriptor(b: Any, base: Any, offset: int, sbo: int) -> Any:
    start = b.define("b32", "shr.u32", b.define("b32", "add.u32", base, offset), 4)
    field = b.define("b64", "cvt.u64.u32", b.define("b32", "and.b32", start, 0x3FFF))
    return b.define("b64", "or.b64", field, descriptor(0, 0, sbo, "128B"))


def _fragment_memory(a: Any, size: int) -> Any:
    """A's register fragments in memory: (k step, register, thread) words."""
    row, col = fragments.left(8 * size)
    per = 4 // size
    steps = []
    for k0 in range(0, a.shape[1], 32 // size):
        raw = np.ascontiguousarray(a.view(f"u{size}")[row, col + k0].T)
        steps.append(raw.reshape(128, -1, per).view(np.uint32)[:, :, 0].T)
    return np.ascontiguousarray(np.stack(steps))


def _load_fragment(b: Any, base: Any, size: int) -> list[Any]:
    place = index(b, base, 4)
    return [
        [b.define("b32", "ld.global.b32", addr(place, 512 * (4 * step + i))) for i in range(4)]
        for step in range(4)
    ]


def _assemble(out: Any, n: int, result: str) -> Any:
    where = fragments.accumulator(n)
    tile = np.zeros((64, n), np.float64)
    if result == "f16":
        words = np.ascontiguousarray(out[: n // 4])
        halves = np.stack([words & 0xFFFF, words >> 16], axis=1).reshape(n // 2, 128).astype(np.uint16)
        tile[where] = halves.view(np.float16)
    else:
        tile[where] = out.view(np.int32 if result == "s32" else np.float32)
    return tile


@pytest.mark.parametrize("type_", TYPES)
def test_wgmma_types(type_):
    got, want = _product(type_, 32)
    assert (got == want).all()


@pytest.mark.parametrize("mode, seed", MODES)
def test_wgmma_in_every_mode(mode, seed):
    got, want = _product("f16", 64, mode=mode, seed=seed)
    assert (got == want).all()


def test_wgmma_transposes_b():
    got, want = _product("bf16", 64, turn_b=True)
    assert (got == want).all()


def test_wgmma_negates_and_accumulates_in_f16():
    got, want = _product("f16", 16, negate=True, f16=True)
    assert np.abs(got - want).max() < 0.5 and np.abs(want).max() > 10


@pytest.mark.parametrize("type_", ["f16", "e4m3", "s8"])
def test_wgmma_takes_a_from_registers(type_):
    got, want = _product(type_, 16, in_registers=True)
    assert (got == want).all()


MMA = {"f16": (np.float16, 16, "f32"), "bf16": (ml_dtypes.bfloat16, 16, "f32"),
       "tf32": (np.float32, 8, "f32"), "s8": (np.int8, 32, "s32"),
       "e4m3": (ml_dtypes.float8_e4m3fn, 32, "f32")}  # fmt: skip


@pytest.mark.parametrize("type_", MMA)
def test_mma_sync(type_):
    dtype, k, result = MMA[type_]
    bits = np.dtype(dtype).itemsize * 8
    a, b_np = _values((16, k), dtype), _values((k, 8), dtype)
    words = []
    for matrix, (i, j) in ((a, fragments.left(bits, 32, k)), (b_np, fragments.right(bits, k))):
        raw = np.ascontiguousarray(matrix.view(f"u{bits // 8}")[i, j].T)
        words.append(np.ascontiguousarray(raw.reshape(32, -1, 32 // bits).view(np.uint32)[:, :, 0].T))
    out = np.zeros((4, 32), np.uint32)
    b = builder()
    bases = [pointer(b) for _ in range(3)]
    regs = [
        [b.define("b32", "ld.global.b32", addr(index(b, base, 4), 128 * i)) for i in range(len(w))]
        for base, w in zip(bases, words, strict=False)
    ]
    cls = "f32" if result == "f32" else "b32"
    d, c = b.regs(cls, 4), [b.define(cls, f"mov.{cls}", 0.0 if cls == "f32" else 0) for _ in range(4)]
    types = f"{result}.{type_}.{type_}.{result}"
    b.emit(f"mma.sync.aligned.m16n8k{k}.row.col.{types}", d, regs[0], regs[1], c)
    for i, r in enumerate(d):
        b.emit("st.global.b32", addr(index(b, bases[2], 4), 128 * i), r)
    b.emit("ret")
    run(b, [*words, out])
    tile = np.zeros((16, 8))
    tile[fragments.accumulator(8, 32)] = out.view(np.int32 if result == "s32" else np.float32)
    assert (tile == a.astype(np.float64) @ b_np.astype(np.float64)).all()
