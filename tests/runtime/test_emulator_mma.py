"""mma.sync of every type and shape, and wmma, against numpy."""

from __future__ import annotations

import itertools
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from emulator_kit import builder, pointer, run
from mma_kit import multiply

from tilec.ir.errors import TilecError
from tilec.ir.ptx import addr
from tilec.ir.ptx.module import Vec

FLOATS = {
    "f16": np.float16, "bf16": ml_dtypes.bfloat16, "tf32": np.float32, "e4m3": ml_dtypes.float8_e4m3fn,
    "e5m2": ml_dtypes.float8_e5m2, "f32": np.float32, "f64": np.float64, "e2m1": ml_dtypes.float4_e2m1fn,
}  # fmt: skip
RANGES = {"s8": (-128, 128), "u8": (0, 256), "s4": (-8, 8), "u4": (0, 16), "b1": (0, 2)}


def integers(rng: Any, type: str, shape: tuple[int, int]) -> Any:
    return rng.integers(*RANGES[type], shape)


def floats(rng: Any, type: str, shape: tuple[int, int]) -> Any:
    """Small whole numbers and halves, which every type and sum here holds exactly."""
    top = 3 if type == "e2m1" else 4
    return (rng.integers(-top, top + 1, shape) / 2).astype(FLOATS[type])


def raw(values: Any) -> Any:
    return values.view(f"u{values.dtype.itemsize}")


@pytest.mark.parametrize("opcode, types", [
    ("m16n8k8.row.col.f32.f16.f16.f32", ("f32", "f16", "f16", "f32")),
    ("m16n8k16.row.col.f16.f16.f16.f16", ("f16", "f16", "f16", "f16")),
    ("m16n8k16.row.col.f32.bf16.bf16.f32", ("f32", "bf16", "bf16", "f32")),
    ("m16n8k4.row.col.f32.tf32.tf32.f32", ("f32", "tf32", "tf32", "f32")),
    ("m16n8k8.row.col.f32.tf32.tf32.f32", ("f32", "tf32", "tf32", "f32")),
    ("m16n8k16.row.col.f32.e4m3.e5m2.f32", ("f32", "e4m3", "e5m2", "f32")),
    ("m16n8k32.row.col.f16.e5m2.e4m3.f16", ("f16", "e5m2", "e4m3", "f16")),
    ("m8n8k4.row.col.f64.f64.f64.f64", ("f64", "f64", "f64", "f64")),
    ("m16n8k4.row.col.f64.f64.f64.f64", ("f64", "f64", "f64", "f64")),
    ("m16n8k8.row.col.f64.f64.f64.f64", ("f64", "f64", "f64", "f64")),
    ("m16n8k16.row.col.f64.f64.f64.f64", ("f64", "f64", "f64", "f64")),
])  # fmt: skip
def test_floats(opcode, types):
    rng = np.random.default_rng(1)
    m, n, k = (int(x) for x in opcode[1:].split(".")[0].replace("n", " ").replace("k", " ").split())
    a, b, c = (floats(rng, t, s) for t, s in zip(types[1:], ((m, k), (k, n), (m, n)), strict=True))
    got = multiply(f"mma.sync.aligned.{opcode}", raw(a), raw(b), raw(c), types)
    want = a.astype(float) @ b.astype(float) + c.astype(float)
    assert (got.view(FLOATS[types[0]]).astype(float) == want).all()


def test_four_bits_stand_in_the_middle_of_a_byte():
    rng = np.random.default_rng(2)
    a, b = floats(rng, "e2m1", (16, 32)), floats(rng, "e4m3", (32, 8))
    c = floats(rng, "f32", (16, 8))
    types = ("f32", "e2m1", "e4m3", "f32")
    opcode = "mma.sync.aligned.kind::f8f6f4.m16n8k32.row.col.f32.e2m1.e4m3.f32"
    got = multiply(opcode, raw(a) << 2, raw(b), raw(c), types, target="sm_120a")
    assert (got.view(np.float32) == a.astype(float) @ b.astype(float) + c).all()


@pytest.mark.parametrize("shape, type, other", [
    (shape, *types)
    for shapes, kinds in ((("m8n8k16", "m16n8k16", "m16n8k32"), "s8 u8"),
                          (("m8n8k32", "m16n8k32", "m16n8k64"), "s4 u4"))
    for shape in shapes
    for types in itertools.product(kinds.split(), repeat=2)
])  # fmt: skip
def test_integers(shape, type, other):
    rng = np.random.default_rng(3)
    m, k = int(shape[1:].split("n")[0]), int(shape.split("k")[1])
    a, b = integers(rng, type, (m, k)), integers(rng, other, (k, 8))
    c = rng.integers(-(2**31), 2**31, (m, 8))
    for saturate in ("", ".satfinite"):
        opcode = f"mma.sync.aligned.{shape}.row.col{saturate}.s32.{type}.{other}.s32"
        got = multiply(opcode, a, b, c, ("s32", type, other, "s32")).view(np.int32)
        whole = a @ b + c
        assert (got == (np.clip(whole, -(2**31), 2**31 - 1) if saturate else whole.astype(np.int32))).all()


@pytest.mark.parametrize("shape", ["m8n8k128", "m16n8k128", "m16n8k256"])
@pytest.mark.parametrize("operation", ["and", "xor"])
def test_bits(shape, operation):
    rng = np.random.default_rng(4)
    m, k = int(shape[1:].split("n")[0]), int(shape.split("k")[1])
    a, b = integers(rng, "b1", (m, k)), integers(rng, "b1", (k, 8))
    c = rng.integers(-100, 100, (m, 8))
    opcode = f"mma.sync.aligned.{shape}.row.col.s32.b1.b1.s32.{operation}.popc"
    got = multiply(opcode, a, b, c, ("s32", "b1", "b1", "s32")).view(np.int32)
    pairs = a[:, :, None] & b if operation == "and" else a[:, :, None] ^ b
    assert (got == pairs.sum(axis=1) + c).all()


def test_products_of_f64_are_fused_in_order():
    """1 + 2^-53 * 1 four times: each sum rounds to 1, where a sum of the products first would not."""
    a, b, c = np.full((8, 4), 2.0**-53), np.ones((4, 8)), np.ones((8, 8))
    types = ("f64",) * 4
    opcode = "mma.sync.aligned.m8n8k4.row.col{}.f64.f64.f64.f64"
    assert (multiply(opcode.format(""), raw(a), raw(b), raw(c), types).view(float) == 1).all()
    up = multiply(opcode.format(".rp"), raw(a), raw(b), raw(c), types).view(float)
    assert (up == 1 + 4 * 2.0**-52).all()


def test_a_wrong_number_of_registers_is_an_error():
    a = np.zeros((16, 8), np.uint16)
    with pytest.raises(TilecError, match="registers of D, A, B and C"):
        multiply("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32", a, a, np.zeros((16, 8), np.uint32),
                 ("f32", "f16", "f16", "f32"))  # fmt: skip


WMMA = [
    ("m16n16k16", "f16", "f32", 8, 8, 8), ("m16n16k16", "f16", "f16", 8, 8, 4),
    ("m8n32k16", "bf16", "f32", 2, 8, 8), ("m32n8k16", "s8", "s32", 4, 1, 8),
    ("m16n16k8", "tf32", "f32", 4, 4, 8), ("m8n8k4", "f64", "f64", 1, 1, 2),
    ("m8n8k32", "u4", "s32", 1, 1, 2),
    ("m8n8k128", "b1", "s32", 1, 1, 2),
]  # fmt: skip


def _stored(matrix: Any, layout: str, bits: int) -> Any:
    """The bytes of a matrix in its layout."""
    lines = np.ascontiguousarray(matrix if layout == "row" else matrix.T)
    if bits >= 8:
        return lines.view(np.uint8).reshape(-1)
    parts = (lines[:, :, None] >> np.arange(bits)) & 1
    return np.packbits(parts.reshape(-1), bitorder="little")


@pytest.mark.parametrize("shape, type, result, na, nb, nc", WMMA)
@pytest.mark.parametrize(
    "a_layout, b_layout", [("row", "row"), ("row", "col"), ("col", "row"), ("col", "col")]
)
def test_wmma(shape, type, result, na, nb, nc, a_layout, b_layout):
    narrow = type in ("u4", "b1")
    if narrow and (a_layout, b_layout) != ("row", "col"):
        pytest.skip("narrow types have one layout")
    rng = np.random.default_rng(5)
    m, n, k = (int(x) for x in shape[1:].replace("n", " ").replace("k", " ").split())
    make = floats if type in FLOATS else integers
    a, b = make(rng, type, (m, k)), make(rng, type, (k, n))
    bits = {"u4": 4, "b1": 1}.get(type, 8)
    if type == "s8":
        a, b = a.astype(np.int8), b.astype(np.int8)
    dtype = {"s32": np.int32}.get(result) or FLOATS[result]
    c = rng.integers(-9, 9, (m, n)).astype(dtype)
    out = np.zeros((m, n), dtype)
    sources = [_stored(a, a_layout, bits), _stored(b, b_layout, bits), _stored(c, "col", 8)]
    run(_wmma(shape, type, result, (na, nb, nc), (a_layout, b_layout)), [*sources, out])
    want = a.astype(float) @ b.astype(float) + c.astype(float)
    if type == "b1":
        want = (a[:, :, None] ^ b).sum(axis=1) + c
    assert (out.astype(float) == want).all()


def _wmma(shape: str, type: str, result: str, counts: tuple[int, ...], layouts: tuple[str, str]) -> Any:
    b = builder()
    held = []
    for which, layout, count, name in zip(
        "abc", (*layouts, "col"), counts, (type, type, result), strict=True
    ):
        cls = "b64" if name == "f64" else "b32"
        regs = Vec(tuple(b.reg(cls) for _ in range(count)))
        b.emit(f"wmma.load.{which}.sync.aligned.{layout}.{shape}.global.{name}", regs, addr(pointer(b)))
        held.append(regs)
    operation = ".xor.popc" if type == "b1" else ""
    types = f"{result}.{result}" if type == "f16" else f"{result}.{type}.{type}.{result}"
    opcode = f"wmma.mma{operation}.sync.aligned.{layouts[0]}.{layouts[1]}.{shape}.{types}"
    b.emit(opcode, held[2], *held)
    n = int(shape.split("n")[1].split("k")[0])
    b.emit(f"wmma.store.d.sync.aligned.row.{shape}.global.{result}", addr(pointer(b)), held[2], n)
    b.emit("ret")
    return b
