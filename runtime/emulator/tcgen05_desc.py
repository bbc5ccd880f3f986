"""The descriptors of tcgen05: what a matrix product is, and where its operands lie.

Source of the bit fields and legal shapes: NVIDIA's PTX ISA manual, "Matrix Descriptors" and
"Matrix Shape" of the tcgen05 section; CUTLASS include/cute/arch/mma_sm100_desc.hpp.
"""

from __future__ import annotations

from dataclasses import dataclass

from tilec.ir.ptx.module import Instruction
from tilec.runtime.emulator.report import fault

# Swizzle field of a shared-memory descriptor: 0 none, 1 32 B, 2 64 B, 3 128 B, 4 128 B in atoms
# of 32 B, as ``tensorcore.operand_offsets`` numbers them.
_SWIZZLE = {0: 0, 1: 4, 2: 3, 4: 2, 6: 1}
_HALVES = {0: "f16", 1: "bf16"}
_NARROW = {0: "e4m3", 1: "e5m2", 3: "e2m3", 4: "e3m2", 5: "e2m1"}
_KINDS: dict[str, tuple[int, dict[int, str]]] = {
    "f16": (16, _HALVES), "tf32": (8, {2: "tf32"}), "i8": (32, {0: "u8", 1: "s8"}), "f8f6f4": (32, _NARROW),
    "mxf8f6f4": (32, _NARROW), "mxf4": (64, {1: "e2m1"}), "mxf4nvf4": (64, {1: "e2m1"}),
}  # fmt: skip
_RESULTS = {"f16": (0, 1), "tf32": (1,), "i8": (2,), "f8f6f4": (0, 1)}
_D_TYPES = ("f16", "f32", "s32")
# Scales for each row, by the word that follows .block_scale, or by the kind.
_SCALES = {"scale_vec::1X": 1, "scale_vec::2X": 2, "scale_vec::4X": 4, "block16": 4}


@dataclass(frozen=True)
class Shared:
    """A matrix in shared memory: ``start``, ``lbo`` and ``sbo`` in bytes."""

    start: int
    lbo: int
    sbo: int
    swizzle: int


@dataclass(frozen=True)
class Product:
    """D (m x n) = A (m x k) B (k x n) + D. ``scales`` is the number of scale factors of a row
    (0: none), of type ``scale``; ``ids`` choose their bytes in a word of tensor memory."""

    m: int
    n: int
    k: int
    types: tuple[str, str, str]
    turned: tuple[bool, bool]
    sign: int
    saturate: bool
    scales: int = 0
    scale: str = ""
    ids: tuple[int, int] = (0, 0)


def decode_shared(bits: int, inst: Instruction) -> Shared:
    """The fields of a 64-bit shared-memory descriptor of sm_100."""
    mode = bits >> 61
    if mode not in _SWIZZLE:
        raise fault("D415", f"descriptor {bits:#x} has no swizzle mode {mode}", inst)
    if bits >> 46 & 7 != 1:
        raise fault("D415", f"descriptor {bits:#x} is not of sm_100: bits 46 to 48 are not 0b001", inst)
    if bits >> 52 & 1 or (bits >> 49 & 7 and mode):  # without swizzle there is no pattern to be off
        raise fault("D404", "a descriptor with base offset or absolute stride is not emulated", inst)
    start, lbo, sbo = ((bits >> at & 0x3FFF) << 4 for at in (0, 16, 32))
    return Shared(start, lbo, sbo, _SWIZZLE[mode])


def kind_of(inst: Instruction) -> str:
    """The word after kind::."""
    return next(p for p in inst.opcode.split(".") if p.startswith("kind::"))[6:]


def decode_product(bits: int, inst: Instruction) -> Product:
    """The fields of a 32-bit instruction descriptor. D415 if the kind does not have them."""
    kind, scaled = kind_of(inst), ".block_scale" in inst.opcode
    k, types = _KINDS[kind]
    if bits >> 2 & 1:
        raise fault("D404", "sparse products are not emulated", inst)
    codes = (bits >> 7 & 7, bits >> 10 & (3 if k == 64 else 7))
    if scaled:
        results: tuple[int, ...] = (1,)
        scales = _scales(kind, inst)
        result, scale = 1, ("ue4m3", "ue8m0")[bits >> 23 & 1]
        if bits >> 31:
            raise fault("D404", "products with k = 96 are not emulated", inst)
    else:
        results, scales, result, scale = _RESULTS[kind], 0, bits >> 4 & 3, ""
    if result not in results or any(c not in types for c in codes):
        raise fault("D415", f"instruction descriptor {bits:#x} has types that kind::{kind} lacks", inst)
    found = Product(
        (bits >> 24 & 31) << 4, (bits >> 17 & 63) << 3, k,
        (_D_TYPES[result], types[codes[0]], types[codes[1]]),
        (bool(bits >> 15 & 1), bool(bits >> 16 & 1)), -1 if (bits >> 13 ^ bits >> 14) & 1 else 1,
        bool(bits >> 3 & 1) and kind == "i8", scales, scale, (bits >> 29 & 3, bits >> 4 & 3),
    )  # fmt: skip
    _check(found, kind, inst)
    return found


def _scales(kind: str, inst: Instruction) -> int:
    given = next((_SCALES[p] for p in inst.opcode.split(".") if p in _SCALES), 0)
    return given or (1 if kind == "mxf8f6f4" else 2)


def _check(p: Product, kind: str, inst: Instruction) -> None:
    """D415 unless the shape, the majors and the scales are legal for the kind."""
    pair, weights = ".cta_group::2" in inst.opcode, ".ws." in inst.opcode
    rows = (32, 64, 128) if weights else (128, 256) if pair else (128,) if p.scales else (64, 128)
    if weights:
        columns: tuple[int, ...] = (64, 128, 256)
    elif kind == "i8":
        columns = tuple(range(32, 257, 32)) if pair else (8, 16, 24, *range(32, 257, 16))
    else:
        columns = tuple(range(16, 257, 16)) if pair else tuple(range(8, 257, 8))
    if p.m not in rows or p.n not in columns:
        raise fault("D415", f"kind::{kind} has no product of {p.m} x {p.n}", inst)
    wide = {"e4m3", "e5m2", "f16", "bf16", "tf32", "s8", "u8"}
    if any(t and (type not in wide or p.k == 64) for t, type in zip(p.turned, p.types[1:], strict=True)):
        raise fault("D405", f"operands of {p.types[1:]} must be K-major", inst)
    if p.scales and p.scale != "ue8m0" and not (kind == "mxf4nvf4" and p.scales == 4):
        raise fault("D415", f"kind::{kind} with {p.scales} scale factors of type {p.scale}", inst)
    if any(i % p.scales for i in p.ids if p.scales):
        raise fault("D415", f"scale factor ids {p.ids} with {p.scales} scale factors", inst)
