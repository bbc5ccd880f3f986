"""Arithmetic, conversions, memory and warp instructions of the emulator against numpy."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from emulator_kit import TID, apply, builder, index, pointer, run

from tilec.ir.ptx import addr
from tilec.ir.ptx.module import Not, Pair, Reg
from tilec.runtime.emulator import numbers

RNG = np.random.default_rng(0)
N = 64
U, V, W = (RNG.integers(0, 2**32, N, dtype=np.uint32) for _ in range(3))
SMALL = RNG.integers(0, 40, N).astype(np.uint32)
I, J = U.view(np.int32), np.where(V == 0, 1, V).view(np.int32)
F, G, H = ((RNG.standard_normal(N) * 8).astype(np.float32) for _ in range(3))


def wide(a):
    return a.astype(object)


INTEGER = [
    ("add.s32", (U, V), U + V),
    ("sub.u32", (U, V), U - V),
    ("mul.lo.s32", (U, V), U * V),
    ("mul.hi.u32", (U, V), np.array([int(a) * int(b) >> 32 for a, b in zip(U, V, strict=True)])),
    ("mul.hi.s32", (I, J), np.array([int(a) * int(b) >> 32 for a, b in zip(I, J, strict=True)])),
    ("mad.lo.u32", (U, V, W), U * V + W),
    ("div.s32", (I, J), np.array([int(int(a) / int(b)) for a, b in zip(I, J, strict=True)])),
    ("rem.s32", (I, J), np.fmod(I, J)),
    ("min.s32", (I, J), np.minimum(I, J)),
    ("max.u32", (U, V), np.maximum(U, V)),
    ("abs.s32", (I,), np.abs(I)),
    ("neg.s32", (I,), -I),
    ("and.b32", (U, V), U & V),
    ("xor.b32", (U, V), U ^ V),
    ("not.b32", (U,), ~U),
    ("shl.b32", (U, SMALL), np.array([int(a) << int(n) for a, n in zip(U, SMALL, strict=True)])),
    ("shr.u32", (U, SMALL), np.array([int(a) >> int(n) for a, n in zip(U, SMALL, strict=True)])),
    ("shr.s32", (I, SMALL), np.array([int(a) >> int(n) for a, n in zip(I, SMALL, strict=True)])),
    ("popc.b32", (U,), np.array([bin(a).count("1") for a in U])),
    ("clz.b32", (U,), np.array([32 - int(a).bit_length() for a in U])),
    ("brev.b32", (U,), np.array([int(f"{a:032b}"[::-1], 2) for a in U])),
]


@pytest.mark.parametrize("opcode, args, want", INTEGER, ids=[c[0] for c in INTEGER])
def test_integer(opcode, args, want):
    got = apply(opcode, "b32", ["b32"] * len(args), args, np.zeros(N, np.uint32))
    assert [int(g) for g in got] == [int(w) & 0xFFFFFFFF for w in want]


def test_bit_fields_permutes_and_truth_tables():
    b32, out = ["b32"], np.zeros(N, np.uint32)
    assert (apply("bfe.u32", "b32", b32, [U], out.copy(), 5, 9) == (U >> 5 & 511)).all()
    signed = apply("bfe.s32", "b32", b32, [U], out.copy(), 5, 9).view(np.int32)
    assert (signed == ((U >> 5 & 511).astype(np.int32) ^ 256) - 256).all()
    inserted = apply("bfi.b32", "b32", b32 * 2, [U, V], out.copy(), 8, 4)
    assert (inserted == (V & ~np.uint32(0xF00) | (U & 15) << 8)).all()
    assert (apply("prmt.b32", "b32", b32 * 2, [U, V], out.copy(), 0x5410) == (U & 0xFFFF | V << 16)).all()
    sign = apply("prmt.b32", "b32", b32 * 2, [U, V], out.copy(), 0x8888)
    assert (sign == np.where(U & 128, 0xFFFFFFFF, 0)).all()
    got = apply("lop3.b32", "b32", b32 * 3, [U, V, W], out.copy(), 0xE8)
    assert (got == (U & V | U & W | V & W)).all()
    shifted = apply("shf.l.wrap.b32", "b32", b32 * 2, [U, V], out.copy(), 8)
    assert (shifted == (V << 8 | U >> 24)).all()


FLOATS = [
    ("add.f32", (F, G), F + G),
    ("mul.rn.f32", (F, G), F * G),
    ("div.rn.f32", (F, G), F / G),
    ("max.f32", (F, G), np.maximum(F, G)),
    ("neg.f32", (F,), -F),
    ("sqrt.rn.f32", (np.abs(F),), np.sqrt(np.abs(F))),
    ("copysign.f32", (F, G), np.copysign(G, F)),
]


@pytest.mark.parametrize("opcode, args, want", FLOATS, ids=[c[0] for c in FLOATS])
def test_float(opcode, args, want):
    got = apply(opcode, "f32", ["f32"] * len(args), args, np.zeros(N, np.float32))
    assert got.tobytes() == want.astype(np.float32).tobytes()


def test_fma_rounds_once():
    a, b = np.float32(1 + 2**-12), np.float32(1 + 2**-12)
    c = np.float32(-(1 + 2**-11))
    args = [np.full(N, x, np.float32) for x in (a, b, c)]
    got = apply("fma.rn.f32", "f32", ["f32"] * 3, args, np.zeros(N, np.float32))
    assert (got == np.float32(2**-24)).all()


def test_fma_is_correct_where_two_roundings_are_not():
    # a * b = 1 + 2^-24 - 2^-60 or so: rounding to f64 first would land on the tie.
    a, c = np.float32(2**-12 * (1 + 2**-23)), np.float32(1)
    b = np.float32(2**-12 * (1 - 2**-23))
    exact_below_tie = np.float32(1)
    args = [np.full(N, x, np.float32) for x in (a, b, c)]
    assert (apply("fma.rn.f32", "f32", ["f32"] * 3, args, np.zeros(N, np.float32)) == exact_below_tie).all()


def test_max_and_nan():
    nan = np.full(N, np.nan, np.float32)
    assert (apply("max.f32", "f32", ["f32"] * 2, [nan, F], np.zeros(N, np.float32)) == F).all()
    assert np.isnan(apply("max.NaN.f32", "f32", ["f32"] * 2, [nan, F], np.zeros(N, np.float32))).all()


def test_ftz_flushes():
    tiny = np.full(N, 1e-40, np.float32)
    one = np.ones(N, np.float32)
    assert (apply("mul.ftz.f32", "f32", ["f32"] * 2, [tiny, one], np.ones(N, np.float32)) == 0).all()
    assert (apply("mul.f32", "f32", ["f32"] * 2, [tiny, one], np.ones(N, np.float32)) == tiny).all()


NARROW = {"f16": np.float16, "bf16": ml_dtypes.bfloat16, "e4m3": ml_dtypes.float8_e4m3fn,
          "e5m2": ml_dtypes.float8_e5m2}  # fmt: skip


@pytest.mark.parametrize("fmt", NARROW)
def test_rounding_agrees_with_ml_dtypes(fmt):
    x = np.concatenate([RNG.standard_normal(4000) * s for s in (1e-8, 1e-3, 0.1, 1, 30)]).astype(np.float32)
    limit = float(ml_dtypes.finfo(NARROW[fmt]).max)
    want = np.clip(x, -limit, limit).astype(NARROW[fmt])
    got = numbers.encode(numbers.round_to(x, fmt, saturate=True), fmt)
    assert (got == want.view(got.dtype)).all()
    assert (numbers.decode(got, fmt) == want.astype(np.float32)).all()


@pytest.mark.parametrize("fmt", ["e4m3", "e5m2"])
def test_every_small_code_decodes(fmt):
    codes = np.arange(256, dtype=np.uint8)
    want = codes.view(NARROW[fmt]).astype(np.float32)
    np.testing.assert_array_equal(numbers.decode(codes, fmt), want)


@pytest.mark.parametrize("fmt", ["f16", "bf16"])
def test_pack_puts_the_first_source_high(fmt):
    got = apply(f"cvt.rn.{fmt}x2.f32", "b32", ["f32"] * 2, [F, G], np.zeros(N, np.uint32))
    halves = got.view(NARROW[fmt]).reshape(N, 2)
    assert (halves[:, 0] == G.astype(NARROW[fmt])).all()
    assert (halves[:, 1] == F.astype(NARROW[fmt])).all()


def test_pack_of_fp8_and_back():
    got = apply("cvt.rn.satfinite.e4m3x2.f32", "b16", ["f32"] * 2, [F, G * 100], np.zeros(N, np.uint16))
    want = np.clip(np.stack([G * 100, F], 1), -448, 448).astype(ml_dtypes.float8_e4m3fn)
    assert (got == want.view(np.uint16)[:, 0]).all()
    back = apply("cvt.rn.f16x2.e4m3x2", "b32", ["b16"], [got], np.zeros(N, np.uint32))
    assert (back.view(np.float16).reshape(N, 2) == want.astype(np.float16)).all()


CONVERSIONS = [
    ("cvt.rzi.s32.f32", F, F.astype(np.int32).view(np.uint32)),
    ("cvt.rni.s32.f32", F, np.rint(F).astype(np.int32).view(np.uint32)),
    ("cvt.rmi.s32.f32", F, np.floor(F).astype(np.int32).view(np.uint32)),
    ("cvt.rn.f32.s32", I, I.astype(np.float32).view(np.uint32)),
    ("cvt.rn.f32.u32", U, U.astype(np.float32).view(np.uint32)),
    ("cvt.rna.tf32.f32", F, (F.view(np.uint32) + 0x1000) & 0xFFFFE000),
]


@pytest.mark.parametrize("opcode, arg, want", CONVERSIONS, ids=[c[0] for c in CONVERSIONS])
def test_conversion(opcode, arg, want):
    to, source = opcode.split(".")[-2:]
    kind = {"f32": "f32"}
    out = np.zeros(N, np.uint32)
    got = apply(opcode, kind.get(to, "b32"), [kind.get(source, "b32")], [arg], out)
    assert (got == want).all()


def test_conversion_clamps_and_drops_nan():
    x = np.array([np.nan, 1e20, -1e20, np.inf] * 16, np.float32)
    got = apply("cvt.rzi.s32.f32", "b32", ["f32"], [x], np.zeros(N, np.uint32)).view(np.int32)
    assert got[:4].tolist() == [0, 2**31 - 1, -(2**31), 2**31 - 1]


@pytest.mark.parametrize(
    "name", ["eq", "ne", "lt", "le", "gt", "ge", "equ", "neu", "ltu", "geu", "num", "nan"]
)
def test_float_comparison_and_nan(name):
    a, b = F.copy(), G.copy()
    a[:8], b[4:12], a[20:30] = np.nan, np.nan, b[20:30]
    unordered = np.isnan(a) | np.isnan(b)
    plain = {"eq": a == b, "ne": (a != b) & ~unordered, "lt": a < b, "le": a <= b, "gt": a > b, "ge": a >= b}
    want = {**plain, "num": ~unordered, "nan": unordered, "equ": plain["eq"] | unordered,
            "neu": plain["ne"] | unordered, "ltu": plain["lt"] | unordered,
            "geu": plain["ge"] | unordered}  # fmt: skip
    got = apply(f"setp.{name}.f32", "pred", ["f32"] * 2, [a, b], np.zeros(N, np.uint32))
    assert (got == want[name]).all()


def test_vector_accesses_and_packing():
    data, out = np.arange(32 * 4, dtype=np.uint32), np.zeros((32, 2), np.uint64)
    b = builder()
    source, to = pointer(b), pointer(b)
    r = b.regs("b32", 4)
    b.emit("ld.global.v4.b32", r, addr(index(b, source, 16)))
    low, high = b.define("b64", "mov.b64", r[:2]), b.define("b64", "mov.b64", r[2:])
    b.emit("st.global.v2.b64", addr(index(b, to, 16)), (high, low))
    b.emit("ret")
    run(b, [data, out])
    pairs = data.reshape(32, 4).view(np.uint64)
    assert (out == pairs[:, ::-1]).all()


@pytest.mark.parametrize("mode", ["up", "down", "bfly", "idx"])
def test_shuffle(mode):
    lane = np.arange(32)
    control = 0 if mode == "up" else 31
    source = {"up": lane - 3, "down": lane + 3, "bfly": lane ^ 3, "idx": lane * 0 + 3}[mode]
    inside = (source >= 0) & (source < 32)
    data, out = U[:32].copy(), np.zeros(32, np.uint32)
    valid = np.zeros(32, np.uint32)
    b = builder()
    base, to, ok = pointer(b), pointer(b), pointer(b)
    x = b.define("b32", "ld.global.b32", addr(index(b, base, 4)))
    r, p = b.reg("b32"), b.reg("pred")
    b.emit(f"shfl.sync.{mode}.b32", Pair(r, p), x, 3, control, -1)
    b.emit("st.global.b32", addr(index(b, to, 4)), r)
    b.emit("st.global.b32", addr(index(b, ok, 4)), b.define("b32", "selp.b32", 1, 0, p))
    b.emit("ret")
    run(b, [data, out, valid])
    assert (valid == inside).all()
    assert (out == np.where(inside, data[np.clip(source, 0, 31)], data)).all()


def test_votes_and_reductions():
    out = np.zeros(4, np.uint32)
    b = builder()
    to = pointer(b)
    lane = b.define("b32", "mov.u32", TID)
    odd = b.define("pred", "setp.ne.u32", b.define("b32", "and.b32", lane, 1), 0)
    results = [
        b.define("b32", "vote.sync.ballot.b32", odd, -1),
        b.define("b32", "selp.b32", 1, 0, b.define("pred", "vote.sync.any.pred", odd, -1)),
        b.define("b32", "redux.sync.add.u32", lane, -1),
        b.define("b32", "redux.sync.max.s32", lane, -1),
    ]
    for i, r in enumerate(results):
        b.emit("st.global.b32", addr(to, 4 * i), r)
    b.emit("ret")
    run(b, [out])
    assert out.tolist() == [0xAAAAAAAA, 1, 496, 31]


@pytest.mark.parametrize("mode", ["eager", "random"])
def test_divergent_loop_reconverges(mode):
    """Lane i loops i times; afterwards all lanes shuffle together."""
    out = np.zeros(32, np.uint32)
    b = builder()
    to = pointer(b)
    lane, total, n = b.define("b32", "mov.u32", TID), b.reg("b32"), b.reg("b32")
    b.emit("mov.u32", total, 0)
    b.emit("mov.u32", n, lane)
    head, done = b.label("head"), b.label("done")
    b.place(head)
    b.emit("bra", done, pred=b.define("pred", "setp.eq.u32", n, 0))
    b.emit("add.u32", total, total, n)
    b.emit("sub.u32", n, n, 1)
    b.emit("bra", head)
    b.place(done)
    r = b.reg("b32")
    b.emit("shfl.sync.bfly.b32", r, total, 31, 31, -1)
    b.emit("st.global.b32", addr(index(b, to, 4)), r)
    b.emit("ret")
    run(b, [out], mode=mode, seed=3)
    lane_np = 31 - np.arange(32)
    assert (out == lane_np * (lane_np + 1) // 2).all()


def test_guards_and_early_exit():
    out = np.full(64, 7, np.uint32)
    b = builder()
    to = pointer(b)
    lane = b.define("b32", "mov.u32", TID)
    place = index(b, to, 4)
    b.emit("ret", pred=b.define("pred", "setp.ge.u32", lane, 40))
    even = b.define("pred", "setp.eq.u32", b.define("b32", "and.b32", lane, 1), 0)
    b.emit("st.global.b32", addr(place), 1, pred=even)
    b.emit("st.global.b32", addr(place), 2, pred=Not(even))
    b.emit("ret")
    run(b, [out], block=64)
    assert out.tolist() == [1, 2] * 20 + [7] * 24


def test_atomics_count():
    out = np.zeros(3, np.uint32)
    b = builder()
    to = pointer(b)
    b.emit("red.global.add.u32", addr(to), 1)
    old = b.define("b32", "atom.global.add.u32", addr(to, 4), 2)
    b.emit("red.global.max.u32", addr(to, 8), old)
    b.emit("ret")
    run(b, [out], block=96, grid=2)
    assert out.tolist() == [192, 384, 382]


def test_matrix_loads_are_their_own_transposes():
    data, out = np.arange(64, dtype=np.uint16).reshape(8, 8), np.zeros((8, 8), np.uint16)
    b = builder()
    source, to = pointer(b), pointer(b)
    smem = b.shared("tile", 128)
    lane = b.define("b32", "mov.u32", TID)
    word = b.define("b32", "ld.global.b32", addr(index(b, source, 4)))
    base = b.define("b32", "mov.u32", smem)
    b.emit("st.shared.b32", addr(b.define("b32", "mad.lo.u32", lane, 4, base)), word)
    b.emit("bar.warp.sync", -1)
    row = b.define("b32", "mad.lo.u32", b.define("b32", "and.b32", lane, 7), 16, base)
    r = b.reg("b32")
    b.emit("ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16", (r,), addr(row))
    b.emit("st.global.b32", addr(index(b, to, 4)), r)
    b.emit("ret")
    run(b, [data, out])
    assert (out == data.T).all()


def test_special_registers():
    out = np.zeros((2, 32, 4), np.uint32)
    b = builder()
    to = pointer(b)
    cta = b.define("b32", "mov.u32", Reg("%ctaid.x"))
    place = b.define("b32", "mad.lo.u32", cta, 32, b.define("b32", "mov.u32", TID))
    values = [b.define("b32", "mov.u32", Reg(n)) for n in ("%laneid", "%ctaid.x", "%nctaid.x", "%ntid.x")]
    b.emit("st.global.v4.b32", addr(index(b, to, 16, place)), values)
    b.emit("ret")
    run(b, [out], grid=2)
    assert (out[:, :, 0] == np.arange(32)).all()
    assert (out[1, :, 1:] == [1, 2, 32]).all()
