"""Tensor memory and tcgen05 against numpy: every kind, layout and copy shape."""

from __future__ import annotations

import itertools
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from emulator_kit import MODES as TIMINGS
from tcgen05_kit import Bench, core_matrices, instruction, mma, swizzled

from tilec.ir.ptx import addr
from tilec.runtime.emulator import fragments
from tilec.runtime.emulator.tmem_access import fragment

RNG = np.random.default_rng(5)
SHAPES = {"32x32b": 1, "16x64b": 1, "16x128b": 2, "16x256b": 4, "16x32bx2": 1}
TYPES: dict[str, Any] = {
    "f16": np.float16, "bf16": ml_dtypes.bfloat16, "tf32": np.float32, "e4m3": ml_dtypes.float8_e4m3fn,
    "e5m2": ml_dtypes.float8_e5m2, "s8": np.int8, "u8": np.uint8, "e2m3": ml_dtypes.float6_e2m3fn,
    "e3m2": ml_dtypes.float6_e3m2fn, "e2m1": ml_dtypes.float4_e2m1fn,
}  # fmt: skip
CODES = {
    "f16": 0,
    "bf16": 1,
    "tf32": 2,
    "u8": 0,
    "s8": 1,
    "e4m3": 0,
    "e5m2": 1,
    "e2m3": 3,
    "e3m2": 4,
    "e2m1": 5,
}


def some(rows: int, k: int, type: str) -> Any:
    """Small values that every type holds exactly, so that sums are exact too."""
    if type == "u8":
        return RNG.integers(0, 9, (rows, k)).astype(np.uint8)
    if type in ("e2m1", "e2m3", "e3m2"):
        return (RNG.integers(-4, 5, (rows, k)) / 2).astype(TYPES[type])
    return RNG.integers(-4, 5, (rows, k)).astype(TYPES[type])


def real(values: Any) -> Any:
    return values.astype(np.float64)


def packed(values: Any, type: str) -> Any:
    """The bytes of rows in shared memory, for kind f8f6f4: 16 values of 4 or 6 bits to a unit."""
    bits = {"e2m1": 4, "e2m3": 6, "e3m2": 6}.get(type, 0)
    raw = np.ascontiguousarray(values).view(np.uint8)
    return units(raw, bits) if bits else raw.reshape(len(raw), -1)


def units(codes: Any, bits: int) -> Any:
    """16 codes each as a stream of bits, low first, padded to 16 bytes."""
    out = np.zeros((*codes.reshape(len(codes), -1, 16).shape[:2], 16), np.uint8)
    for row, unit in itertools.product(range(len(codes)), range(codes.shape[1] // 16)):
        word = sum(int(c) << bits * i for i, c in enumerate(codes[row, 16 * unit : 16 * unit + 16]))
        out[row, unit] = np.frombuffer(word.to_bytes(16, "little"), np.uint8)
    return out.reshape(len(codes), -1)


@pytest.mark.parametrize("shape", SHAPES)
def test_fragments_are_injective(shape):
    for registers in [SHAPES[shape] << i for i in range(8) if SHAPES[shape] << i <= 128]:
        lane, column = fragment(shape, registers, registers)
        assert len({*zip(lane.ravel().tolist(), column.ravel().tolist(), strict=True)}) == 32 * registers
        assert lane.max() == (31 if shape == "32x32b" else 15)


def test_fragment_16x256b_is_the_accumulator_of_mma():
    row, column = fragments.accumulator(64, 32)
    lane, at = fragment("16x256b", 32)
    assert (lane == row).all() and (at == column).all()


def test_fragments_as_cutlass_has_them():
    """Bit offsets of (thread, register) from CUTLASS copy_traits_sm100.hpp: 16 rows of all columns."""
    t = np.arange(32)
    lane, column = fragment("16x64b", 2)
    bit = t % 2 * 1024 + t // 2 % 2 * 32 + t // 4 * 128 + np.arange(2)[:, None] * 64
    assert (lane * 128 + column * 32 == bit).all()
    lane, column = fragment("16x256b", 4)
    bit = t % 4 * 64 + t // 4 * 256 + np.array([0, 32, 2048, 2080])[:, None]
    assert (lane * 256 + column * 32 == bit).all()


@pytest.mark.parametrize("mode, seed", TIMINGS)
@pytest.mark.parametrize("shape, packs", list(itertools.product(SHAPES, [False, True])))
def test_a_load_reads_what_a_store_wrote(shape, packs, mode, seed):
    """Store by one shape, load as plain words, and load by the same shape: the identity."""
    count = 4 * SHAPES[shape]
    bench = Bench(64)
    b = bench.b
    bench.fill(0, 0, 32)
    values = np.arange(128 * count, dtype=np.uint32).reshape(128, count) * 65537 + 3
    base = bench.base(values, 4 * count)
    words = [b.define("b32", "ld.global.b32", addr(base, 4 * i)) for i in range(count)]
    halves = 8 if packs else 4
    extra = (halves,) if shape == "16x32bx2" else ()
    b.emit(f"tcgen05.st.sync.aligned.{shape}.x4{'.unpack::16b' * packs}.b32", bench.cell(0), *extra, words)
    b.emit("tcgen05.wait::st.sync.aligned")
    back = b.regs("b32", count)
    b.emit(f"tcgen05.ld.sync.aligned.{shape}.x4{'.pack::16b' * packs}.b32", back, bench.cell(0), *extra)
    b.emit("tcgen05.wait::ld.sync.aligned")
    same = np.zeros((128, count), np.uint32)
    to = bench.base(same, 4 * count)
    for i, word in enumerate(back):
        b.emit("st.global.b32", addr(to, 4 * i), word)
    cells = bench.out(0, 64)
    bench.run(mode, seed)
    assert (same == values).all()
    lane, column = fragment(shape, count, halves, packs)
    for r, t in itertools.product(range(count), range(128)):
        at, col = 32 * (t // 32) + lane[r, t % 32], column[r, t % 32]
        if packs:
            assert cells[at, col] == values[t, r] & 0xFFFF and cells[at, col + 1] == values[t, r] >> 16
        else:
            assert cells[at, col] == values[t, r]


def product(
    kind: str,
    a_type: str,
    b_type: str,
    m: int,
    n: int,
    *,
    swizzle: str = "128B",
    d: int = 1,
    mode: Any = "eager",
    seed: int = 0,
    keep: int = 0,
    **bits: int,
) -> tuple[Any, Any]:
    """(D as words of all lanes, the exact product) of one K-major span, in steps of 32 bytes."""
    size = {"f16": 2, "tf32": 4}.get(kind, 1)
    span = {"none": 32, "32B": 32, "64B": 64, "128B": 128}[swizzle]
    k = span // size
    left, right = some(m, k, a_type), some(n, k, b_type)
    bench = Bench()
    starts = []
    for values, type in ((left, a_type), (right, b_type)):
        raw = packed(values, type)
        starts.append(bench.image(core_matrices(raw) if swizzle == "none" else swizzled(raw, swizzle)))
    bench.ready()
    bench.fill(0x3F800000, 0, 4)
    idesc = instruction(m, n, d, CODES[a_type], CODES[b_type], **bits)

    def body() -> None:
        for step in range(span // 32):
            where = [
                bench.describe(start + 32 * step, 16 * rows if swizzle == "none" else 0,
                               128 if swizzle == "none" else 8 * span, swizzle)
                for start, rows in zip(starts, (m, n), strict=True)
            ]  # fmt: skip
            mma(bench, kind, bench.cell(0), *where, idesc, keep or step)

    bench.issue(body)
    words = bench.out(0, n)
    bench.run(mode, seed)
    return words, real(left) @ real(right).T


def lanes_of(m: int) -> Any:
    """The lanes of the rows of D of one CTA."""
    row = np.arange(m)
    return row if m == 128 else row % 16 + 32 * (row // 16)


@pytest.mark.parametrize("swizzle", ["none", "32B", "64B", "128B"])
@pytest.mark.parametrize("m, n", [(128, 32), (64, 24)])
def test_products_of_halves(swizzle, m, n):
    words, want = product("f16", "f16", "f16", m, n, swizzle=swizzle)
    assert (words.view(np.float32)[lanes_of(m)] == want).all()


@pytest.mark.parametrize("mode, seed", TIMINGS)
def test_products_in_every_timing(mode, seed):
    words, want = product("f16", "bf16", "bf16", 128, 16, mode=mode, seed=seed)
    assert (words.view(np.float32) == want).all()


@pytest.mark.parametrize(
    "kind, a, b",
    [
        ("tf32", "tf32", "tf32"),
        ("f8f6f4", "e4m3", "e5m2"),
        ("f8f6f4", "e2m1", "e3m2"),
        ("f8f6f4", "e2m3", "e4m3"),
    ],
)
def test_products_of_other_kinds(kind, a, b):
    words, want = product(kind, a, b, 128, 16)
    assert (words.view(np.float32) == want).all()


@pytest.mark.parametrize("a, b", list(itertools.product(["s8", "u8"], repeat=2)))
def test_integer_products(a, b):
    words, want = product("i8", a, b, 128, 16, d=2)
    assert (words.view(np.int32) == want).all()


def test_an_accumulator_of_halves_lies_in_lower_halves():
    words, want = product("f16", "f16", "f16", 128, 16, d=0)
    assert (words.astype(np.uint16).view(np.float16) == want.astype(np.float16)).all()
    assert (words >> 16 == 0).all()


def test_negated_operands_and_a_kept_accumulator():
    words, want = product("f16", "f16", "f16", 128, 8, keep=1, negate_a=1)
    start = np.zeros((128, 8))
    start[:, :4] = 1
    assert (words.view(np.float32)[:, :4] == (start - want)[:, :4]).all()


@pytest.mark.parametrize("swizzle", ["none", "32B", "64B", "128B"])
def test_operands_that_are_not_k_major(swizzle):
    """A and B lie as rows of k: one span of mn each, 8 rows of k to a group."""
    span = {"none": 16, "32B": 32, "64B": 64, "128B": 128}[swizzle]
    wide, k = span // 2, 16
    left, right = some(128, k, "f16"), some(wide, k, "f16")
    bench = Bench()
    starts = []
    for values in (left, right):
        rows = np.concatenate(
            [np.ascontiguousarray(values[i : i + wide].T) for i in range(0, len(values), wide)]
        )
        starts.append(bench.image(rows if swizzle == "none" else swizzled(rows, swizzle)))
    bench.ready()
    idesc = instruction(128, wide, 1, 0, 0, turn_a=1, turn_b=1)
    # Without a swizzle the strides between 8 rows of k and between spans change places.
    group, block = 8 * span, k * span
    lbo, sbo = (group, block) if swizzle == "none" else (block, group)
    bench.issue(lambda: mma(bench, "f16", bench.cell(0),
                            *(bench.describe(s, lbo, sbo, swizzle) for s in starts), idesc, 0))  # fmt: skip
    words = bench.out(0, wide)
    bench.run()
    assert (words.view(np.float32) == real(left) @ real(right).T).all()


def test_tf32_operands_that_are_not_k_major():
    """128-byte swizzle in atoms of 32 bytes: rows of k with 32 values, 4 rows to a group."""
    left, right = some(128, 8, "tf32"), some(32, 8, "tf32")
    bench = Bench()
    starts = []
    for values in (left, right):
        rows = np.concatenate([np.ascontiguousarray(values[i : i + 32].T) for i in range(0, len(values), 32)])
        raw, address = rows.view(np.uint8).ravel(), np.arange(rows.nbytes)
        image = np.empty_like(raw)
        image[address ^ ((address >> 7 & 3) << 5)] = raw
        starts.append(bench.image(image))
    bench.ready()
    idesc = instruction(128, 32, 1, 2, 2, turn_a=1, turn_b=1)
    bench.issue(lambda: mma(bench, "tf32", bench.cell(0),
                            *(bench.describe(s, 1024, 512, "128B/32B") for s in starts),
                            idesc, 0))  # fmt: skip
    words = bench.out(0, 32)
    bench.run()
    assert (words.view(np.float32) == real(left) @ real(right).T).all()


def span_image(bench: Bench, values: Any, type: str) -> tuple[int, int]:
    """(start, SBO) of K-major rows of 32 bytes, 32-byte swizzle."""
    raw = packed(values, type)
    return bench.image(swizzled(raw.reshape(-1, 32), "32B")), 256


@pytest.mark.parametrize("type, kind", [("f16", "f16"), ("tf32", "tf32"), ("s8", "i8"), ("e4m3", "f8f6f4"),
                                        ("e2m1", "f8f6f4"), ("e3m2", "f8f6f4")])  # fmt: skip
@pytest.mark.parametrize("m", [64, 128])
def test_a_from_tensor_memory(type, kind, m):
    k = 32 // {"f16": 2, "tf32": 4}.get(type, 1)
    left, right = some(m, k, type), some(16, k, type)
    raw = np.ascontiguousarray(left).view(np.uint8).reshape(m, 32)
    raw = raw << (2 if type == "e2m1" else 0)
    words = np.zeros((128, 8), np.uint32)
    words[lanes_of(m)] = raw.view(np.uint32)
    bench = Bench()
    start, sbo = span_image(bench, right, type)
    bench.ready()
    bench.put(words, 64)
    idesc = instruction(m, 16, 2 if kind == "i8" else 1, CODES[type], CODES[type])
    bench.issue(lambda: mma(bench, kind, bench.cell(0), bench.cell(64), bench.describe(start, 0, sbo, "32B"),
                            idesc, 0))  # fmt: skip
    out = bench.out(0, 16)
    bench.run()
    got = out.view(np.int32 if kind == "i8" else np.float32)[lanes_of(m)]
    assert (got == real(left) @ real(right).T).all()


def test_lanes_can_be_disabled():
    left, right = some(128, 16, "f16"), some(8, 16, "f16")
    bench = Bench()
    (a, sbo), (b, _) = span_image(bench, left, "f16"), span_image(bench, right, "f16")
    bench.ready()
    bench.fill(7, 0, 8)
    masks = [bench.b.define("b32", "mov.b32", m) for m in (0, 0xFFFFFFFF, 0x0000FFFF, 1)]
    bench.issue(lambda: mma(bench, "f16", bench.cell(0), *(bench.describe(s, 0, sbo, "32B") for s in (a, b)),
                            instruction(128, 8, 1, 0, 0), 0, mask=masks))  # fmt: skip
    words = bench.out(0, 8)
    bench.run()
    off = np.zeros(128, bool)
    off[32:80] = off[96] = True
    assert (words[off] == 7).all()
    assert (words.view(np.float32)[~off] == (real(left) @ real(right).T)[~off]).all()


def test_the_kept_accumulator_is_scaled_down():
    left, right = some(128, 16, "f16"), some(8, 16, "f16")
    bench = Bench()
    (a, sbo), (b, _) = span_image(bench, left, "f16"), span_image(bench, right, "f16")
    bench.ready()
    bench.fill(0x41000000, 0, 8)
    one = bench.b.define("pred", "setp.eq.u32", 0, 0)
    bench.issue(lambda: bench.b.emit("tcgen05.mma.cta_group::1.kind::f16", bench.cell(0),
                                     *(bench.describe(s, 0, sbo, "32B") for s in (a, b)),
                                     bench.b.define("b32", "mov.b32", instruction(128, 8, 1, 0, 0)),
                                     one, 3))  # fmt: skip
    words = bench.out(0, 8)
    bench.run()
    assert (words.view(np.float32) == real(left) @ real(right).T + 1).all()


@pytest.mark.parametrize("m", [32, 64, 128])
@pytest.mark.parametrize("in_tensor", [False, True])
def test_weight_stationary_products_fold_the_columns(m, in_tensor):
    left, right = some(m, 16, "f16"), some(64, 16, "f16")
    bench = Bench()
    (a, sbo), (b, _) = span_image(bench, left, "f16"), span_image(bench, right, "f16")
    bench.ready()
    bench.put(np.tile(left.view(np.uint32), (128 // m, 1)), 256)
    where = bench.cell(256) if in_tensor else bench.describe(a, 0, sbo, "32B")
    one = bench.b.define("pred", "setp.ne.u32", 0, 0)
    bench.issue(lambda: bench.b.emit("tcgen05.mma.ws.cta_group::1.kind::f16", bench.cell(0), where,
                                     bench.describe(b, 0, sbo, "32B"),
                                     bench.b.define("b32", "mov.b32", instruction(m, 64, 1, 0, 0)),
                                     one))  # fmt: skip
    count = 64 * m // 128
    words = bench.out(0, count)
    bench.run()
    want = real(left) @ real(right).T
    for part in range(128 // m):
        got = words.view(np.float32)[m * part : m * part + m]
        assert (got == want[:, count * part : count * part + count]).all()


def scale_words(codes: Any) -> Any:
    """Codes (rows, up to 4) as words of tensor memory: row % 32 is the lane, in all four quarters."""
    full = np.zeros((codes.shape[0], 4), np.uint8)
    full[:, : codes.shape[1]] = codes
    words = full.view(np.uint32)[:, 0].reshape(-1, 32).T
    return np.tile(words, (4, 1))


def nibbles(codes: Any) -> Any:
    return codes[:, 0::2] | codes[:, 1::2] << 4


@pytest.mark.parametrize(
    "kind, type, suffix, scales, id, ue8m0",
    [("mxf8f6f4", "e4m3", "", 1, 0, 1), ("mxf8f6f4", "e2m1", ".scale_vec::1X", 1, 3, 1),
     ("mxf8f6f4", "e3m2", ".block32", 1, 2, 1), ("mxf4", "e2m1", "", 2, 0, 1),
     ("mxf4", "e2m1", ".scale_vec::2X", 2, 2, 1), ("mxf4nvf4", "e2m1", ".block32", 2, 2, 1),
     ("mxf4nvf4", "e2m1", ".block16", 4, 0, 0), ("mxf4nvf4", "e2m1", ".scale_vec::4X", 4, 0, 1)],
)  # fmt: skip
def test_block_scaled_products(kind, type, suffix, scales, id, ue8m0):
    k, n = (64 if "mxf4" in kind else 32), 48
    left, right = some(128, k, type), some(n, k, type)
    if ue8m0:
        codes = [RNG.integers(124, 131, (rows, 4)).astype(np.uint8) for rows in (128, 64)]
        factors = [2.0 ** (c.astype(float) - 127) for c in codes]
    else:
        values = [RNG.integers(1, 9, (rows, 4)).astype(ml_dtypes.float8_e4m3fn) for rows in (128, 64)]
        codes, factors = [v.view(np.uint8) for v in values], [v.astype(float) for v in values]
    bench = Bench()
    if k == 64:
        (a, sbo), (b, _) = (
            (bench.image(swizzled(nibbles(v.view(np.uint8)), "32B")), 256) for v in (left, right)
        )
    else:
        (a, sbo), (b, _) = span_image(bench, left, type), span_image(bench, right, type)
    bench.ready()
    bench.put(scale_words(codes[0]), 128)
    bench.put(scale_words(codes[1]), 160)
    code = 1 if k == 64 else CODES[type]
    idesc = instruction(128, n, 0, code, code, ue8m0=ue8m0, id_a=id, id_b=id)
    bench.issue(lambda: mma(bench, kind, bench.cell(0), *(bench.describe(s, 0, sbo, "32B") for s in (a, b)),
                            idesc,
                            0, bench.cell(128), bench.cell(160), suffix=f".block_scale{suffix}"))  # fmt: skip
    words = bench.out(0, n)
    bench.run()
    fa, fb = (np.repeat(f[:, id : id + scales], k // scales, axis=1) for f in factors)
    want = (real(left) * fa) @ (real(right) * fb[:n]).T
    assert (words.view(np.float32) == want.astype(np.float32)).all()
