"""Tensor maps: how their 128 bytes are encoded here, and the boxes they describe.

The device's encoding is private; the one here only has to mean "no interleave, zero
fill" where bytes are zero, since programs that make a map clear it first.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from tilec.ir.ptx.module import Instruction, Int
from tilec.runtime.emulator import access
from tilec.runtime.emulator.alu import Builder, mods
from tilec.runtime.emulator.numbers import Array
from tilec.runtime.emulator.operands import address, getter, per_thread
from tilec.runtime.emulator.program import Program, Run
from tilec.runtime.emulator.report import fault

if TYPE_CHECKING:
    from tilec.runtime.emulator.strand import Strand

SIZE = 128
_LAYOUT = struct.Struct("<Q4Q5Q5H5B6B")
# The last two keep 32 or 64 bytes together, where the others keep 16.
SWIZZLES = ("none", "32B", "64B", "128B", "128B_ATOM_32B", "128B_ATOM_64B")
# The fields swizzle_mode and swizzle_atomicity of each.
_MODES = ((0, 0), (1, 0), (2, 0), (3, 0), (3, 1), (3, 3))
_SPANS = (0, 32, 64, 128, 128, 128)
# In the order of the field "elemtype" of tensormap.replace: name and bytes. The last three are groups of 16
# elements of 4 and 6 bits.
ELEMENTS = (
    ("UINT8", 1), ("UINT16", 2), ("UINT32", 4), ("INT32", 4), ("UINT64", 8), ("INT64", 8), ("FLOAT16", 2),
    ("FLOAT32", 4), ("FLOAT32_FTZ", 4), ("FLOAT64", 8), ("BFLOAT16", 2), ("TFLOAT32", 4), ("TFLOAT32_FTZ", 4),
    ("16U4_ALIGN8B", 8), ("16U4_ALIGN16B", 8), ("16U6_ALIGN16B", 12),
)  # fmt: skip
_NANS = {
    "FLOAT16": 0x7FFF, "BFLOAT16": 0x7FFF, "FLOAT32": 0x7FFFFFFF, "FLOAT32_FTZ": 0x7FFFFFFF,
    "TFLOAT32": 0x7FFFFFFF, "TFLOAT32_FTZ": 0x7FFFFFFF, "FLOAT64": 0x7FFFFFFFFFFFFFFF,
}  # fmt: skip
_OFFSETS = {
    "global_address": (0, 8), "global_stride": (8, 8), "global_dim": (40, 8), "box_dim": (80, 2),
    "element_stride": (90, 1), "rank": (95, 1), "elemtype": (96, 1), "interleave_layout": (97, 1),
    "swizzle_mode": (98, 1), "fill_mode": (99, 1), "swizzle_atomicity": (100, 1),
}  # fmt: skip
_SPACES = {"global": "global", "shared::cta": "shared"}


_GROUPS, _GROUP = ("16U4_ALIGN8B", "16U4_ALIGN16B", "16U6_ALIGN16B"), 16


@dataclass(frozen=True)
class TensorMap:
    """Dimensions innermost first; ``strides`` in bytes, of all dimensions but the first. Where
    elements are groups, ``dims`` and ``box`` count groups (see ``grouped``)."""

    address: int
    dims: tuple[int, ...]
    strides: tuple[int, ...]
    box: tuple[int, ...]
    element: int
    swizzle: int = 0
    steps: tuple[int, ...] = ()
    fill: int = 0

    @property
    def size(self) -> int:
        """Bytes of one element."""
        return ELEMENTS[self.element][1]

    @property
    def name(self) -> str:
        """The element's type, after CU_TENSOR_MAP_DATA_TYPE_."""
        return ELEMENTS[self.element][0]

    @property
    def held(self) -> int:
        """Bytes of one element in shared memory: some groups are padded."""
        return 16 if self.padded else self.size

    @property
    def padded(self) -> bool:
        return self.name in _GROUPS[1:]

    @property
    def group(self) -> int:
        """How many of the coordinate's elements one element here is."""
        return _GROUP if self.name in _GROUPS else 1

    @property
    def outside(self) -> int:
        """The bits of an element outside the tensor: 0, or a NaN of its float type."""
        return _NANS.get(self.name, 0) if self.fill else 0

    @property
    def bytes(self) -> int:
        """Bytes of a whole box, which its copy counts on an mbarrier."""
        return int(np.prod(self.box)) * self.size

    @property
    def room(self) -> int:
        """Bytes of a whole box in shared memory."""
        return int(np.prod(self.box)) * self.held


def element_code(name: str) -> int:
    """The code of a data type by its name after CU_TENSOR_MAP_DATA_TYPE_."""
    return [n for n, _ in ELEMENTS].index(name)


def encode(m: TensorMap) -> bytes:
    def pad(values: Sequence[int], count: int) -> list[int]:
        return [*values, *[0] * (count - len(values))]

    steps = m.steps or (1,) * len(m.dims)
    raw = _LAYOUT.pack(
        m.address, *pad(m.strides, 4), *pad(m.dims, 5), *pad(m.box, 5), *pad(steps, 5), len(m.dims) - 1,
        m.element, 0, _MODES[m.swizzle][0], m.fill, _MODES[m.swizzle][1],
    )  # fmt: skip
    return raw.ljust(SIZE, b"\0")


def decode(raw: bytes) -> TensorMap:
    fields = _LAYOUT.unpack(raw[: _LAYOUT.size])
    rank = fields[20] + 1
    modes = (fields[23], fields[25])
    return TensorMap(
        fields[0], tuple(fields[5 : 5 + rank]), tuple(fields[1:rank]), tuple(fields[10 : 10 + rank]),
        fields[21], _MODES.index(modes) if modes in _MODES else -1, tuple(fields[15 : 15 + rank]), fields[24],
    )  # fmt: skip


def grouped(m: TensorMap) -> TensorMap:
    """The map with dimensions and box in groups, where its elements are groups."""
    if m.group == 1:
        return m
    first = (-(-m.dims[0] // _GROUP), m.box[0] // _GROUP)
    return replace(m, dims=(first[0], *m.dims[1:]), box=(first[1], *m.box[1:]))


def check(m: TensorMap, inst: Instruction) -> None:
    """The rules of cuTensorMapEncodeTiled that a kernel can break. Those of groups: PTX ISA
    manual, "Restriction on Tensor Copy instructions"."""
    inner, align = m.box[0] * m.held // m.group, 32 if m.padded else 16
    span = _SPANS[m.swizzle]
    rules = (
        (m.address % align == 0, f"its base address {m.address:#x} is not a multiple of {align}"),
        (
            all(s % align == 0 for s in m.strides),
            f"strides {m.strides} are no multiples of {align}",
        ),
        (all(1 <= b <= 256 for b in m.box), f"its box {m.box} has a side outside 1 to 256"),
        (inner % 16 == 0, f"the inner side of its box is {inner} bytes, no multiple of 16"),
        (not span or inner <= span, f"the inner side of its box is {inner} bytes, wider than its swizzle"),
        (all(m.dims), f"its dimensions {m.dims} contain 0"),
        (m.box[0] % m.group == 0, f"the inner side of its box is {m.box[0]}, no multiple of 16"),
        (not m.padded or m.box[0] == 128, f"the inner side of its box is {m.box[0]}, not 128 elements"),
        (not m.padded or m.dims[0] % 128 == 0, f"its inner side of {m.dims[0]} is no multiple of 128"),
        (m.group == 1 or not m.fill, f"elements of type {m.name} cannot be filled with NaN"),
    )
    for holds, text in rules:
        if not holds:
            raise fault("E17", f"a tensor map is not legal: {text}", inst)


def box_bytes(m: TensorMap, coords: Sequence[int]) -> tuple[Array, Array]:
    """Byte offsets from the base address of every element of a box, and which are in range;
    both of shape (outer..., inner), outermost dimension first."""
    strides = (m.size, *m.strides)
    offset = np.zeros((1,) * len(m.box), np.int64)
    inside = np.ones((1,) * len(m.box), bool)
    for axis, (start, extent) in enumerate(zip(coords, m.box, strict=True)):
        step = m.steps[axis] if m.steps else 1
        index = start + np.arange(extent) * max(step, 1)
        shape = [1] * len(m.box)
        shape[len(m.box) - 1 - axis] = extent
        offset = offset + (index * strides[axis]).reshape(shape)
        inside = inside & ((index >= 0) & (index < m.dims[axis])).reshape(shape)
    return offset, np.broadcast_to(inside, offset.shape)


def swizzled_units(start: int, size: int, swizzle: int) -> Array:
    """Where each 16-byte unit of a dense box at ``start`` lies, as unit numbers."""
    unit = (start >> 4) + np.arange(size >> 4)
    bits, shift = ((0, 0), (1, 0), (3, 0), (7, 0), (3, 1), (1, 2))[swizzle]
    result: Array = unit ^ (((unit >> 3) & bits) << shift)
    return result


def change(inst: Instruction, program: Program) -> Run:
    """tensormap.replace: set a field; tensormap.cp_fenceproxy: copy the map to global memory."""
    if mods(inst)[0] == "cp_fenceproxy":
        return _copy(inst, program)
    field = mods(inst)[2]
    start, width = _OFFSETS[field]
    value = inst.operands[-1]
    index = inst.operands[1].value if len(inst.operands) == 3 and isinstance(inst.operands[1], Int) else 0
    where, get = address(program, inst.operands[0], inst), getter(program, value, mods(inst)[-1], inst)
    target = next((_SPACES[p] for p in mods(inst) if p in _SPACES), "generic")

    def run(s: Strand) -> None:
        raw, places = per_thread(s, get(s)).astype(np.dtype(f"u{width}")), where(s)
        data = np.ascontiguousarray(raw).view(np.uint8).reshape(s.n, width)
        for i in range(width):
            place = places + np.uint64(start + index * width + i)
            access.put(s, target, place, np.ascontiguousarray(data[:, i]), 1, 1, inst)
        s.cta.machine.observer.write(s, target, places, SIZE, inst)

    return run


def _copy(inst: Instruction, program: Program) -> Run:
    to, source = (address(program, o, inst) for o in inst.operands[:2])

    def run(s: Strand) -> None:
        one = s.narrow(np.arange(s.n) == 0)
        for half in (np.uint64(0), np.uint64(SIZE // 2)):
            data = access.load(one, "shared", source(one) + half, 8, SIZE // 16, inst)
            access.store(one, "global", to(one) + half, data, 8, SIZE // 16, inst)

    return run


def read_map(s: Strand, place: int, inst: Instruction) -> TensorMap:
    """The tensor map at a generic address."""
    one = s.narrow(np.arange(s.n) == 0)
    halves = np.array([place, place + SIZE // 2], np.uint64)
    parts = [access.fetch(one, "generic", halves[i : i + 1], 8, SIZE // 16, inst) for i in (0, 1)]
    raw = np.concatenate(parts).tobytes()
    s.cta.machine.observer.read_map(one, place, inst)
    found = decode(raw)
    if found.element >= len(ELEMENTS) or len(found.dims) > 5:
        raise fault("E17", f"there is no tensor map at {place:#x}", inst)
    if raw[_OFFSETS["interleave_layout"][0]] or found.swizzle < 0:
        text = "interleaved tensor maps, and swizzles of 96 bytes or with a flip, are not emulated"
        raise fault("D404", text, inst)
    check(found, inst)
    return grouped(found)


TABLE: dict[str, Builder] = {"tensormap": change}
