"""Which numbers go into a tensor map, and the rules that they must keep.

A pure function, so that the rules are tested without a GPU. The limits are those
that the CUDA driver API documents for cuTensorMapEncodeTiled.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from tilec.backends.artifact import TensorMap
from tilec.ir.errors import TilecTypeError, TilecValueError, UnsupportedError
from tilec.runtime.arrays import Described

MAX_RANK = 5
MAX_SIZE = 1 << 32
MAX_STRIDE = 1 << 40  # bytes, exclusive
MAX_BOX = 256
ALIGNMENT = 16  # bytes
SPAN = {"none": None, "32B": 32, "64B": 64, "128B": 128}  # bytes of a swizzled row

# Suffixes of CU_TENSOR_MAP_DATA_TYPE_. Types that it lacks are copied as bits of their width.
DATA_TYPE = {
    "int8": "UINT8", "uint8": "UINT8", "bool": "UINT8", "float8_e4m3": "UINT8", "float8_e5m2": "UINT8",
    "int16": "UINT16", "uint16": "UINT16", "int32": "INT32", "uint32": "UINT32", "int64": "INT64",
    "uint64": "UINT64", "float16": "FLOAT16", "bfloat16": "BFLOAT16", "float32": "FLOAT32",
    "float64": "FLOAT64",
}  # fmt: skip


@dataclass(frozen=True)
class TensorMapFields:
    """Arguments of the encoder: innermost dimension first, strides in bytes from dimension 1 on."""

    data_type: str
    address: int
    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    box: tuple[int, ...]
    swizzle: str


def tensor_map_fields(map: TensorMap, array: Described) -> TensorMapFields:
    """The fields for an array, or a TilecError that says which rule it breaks.

    Raises UnsupportedError for an array without elements.
    """
    what = f"argument {map.arg}"
    if array.tensor.dtype != map.dtype or len(array.shape) != len(map.dims):
        raise TilecTypeError(
            "T601", f"{what} is {array.tensor}; the kernel was compiled for {map.dtype}, {len(map.dims)}"
        )
    if 0 in array.shape:
        raise UnsupportedError("U602", f"{what} has no elements: shape {array.shape}",
                               help="do not launch on empty tensors, or use backend=\"cpu\"")  # fmt: skip
    sizes = tuple(array.shape[d] for d in map.dims)
    strides = _strides(map, array, sizes)
    fields = TensorMapFields(DATA_TYPE[map.dtype.name], array.address, sizes, strides, map.box, map.swizzle)
    _check(what, map, array, fields)
    return fields


def _strides(map: TensorMap, array: Described, sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Byte strides of dimensions 1 and up. The stride of an extent of 1 does not matter: make it legal."""
    item = map.dtype.bytes
    found = [item]
    for d, (inner, size) in zip(map.dims[1:], pairwise(sizes), strict=True):
        packed = -(-found[-1] * inner // ALIGNMENT) * ALIGNMENT
        found.append(array.strides[d] * item if size > 1 else packed)
    return tuple(found[1:])


def _check(what: str, map: TensorMap, array: Described, fields: TensorMapFields) -> None:
    sizes, strides, box = fields.sizes, fields.strides, fields.box
    inner = array.strides[map.dims[0]] if sizes[0] > 1 else 1
    row, span = box[0] * map.dtype.bytes, SPAN[fields.swizzle]
    copy = "pass a contiguous copy whose rows start at multiples of 16 bytes"
    rules = (
        (1 <= len(sizes) <= MAX_RANK, f"a rank of {len(sizes)} is not 1 to {MAX_RANK}", ""),
        (inner == 1, f"axis {map.dims[0]} has stride {inner}, not 1", copy),
        (fields.address % ALIGNMENT == 0, f"address {fields.address:#x} is no multiple of 16 bytes", copy),
        (all(n <= MAX_SIZE for n in sizes), f"an extent of {sizes} is above 2^32", ""),
        (all(s >= 0 for s in strides), f"a stride is negative: {strides} bytes", copy),
        (all(s % ALIGNMENT == 0 for s in strides), f"strides {strides} in bytes, no multiples of 16", copy),
        (all(s < MAX_STRIDE for s in strides), f"a stride of {strides} bytes is 2^40 or more", ""),
        (len(box) == len(sizes), f"box {box} of another rank", ""),
        (all(1 <= n <= MAX_BOX for n in box), f"box {box}: extents must be 1 to {MAX_BOX}", ""),
        (row % ALIGNMENT == 0, f"a box row of {row} bytes is no multiple of 16", ""),
        (span is None or row <= span, f"a row of {row} bytes is wider than swizzle {fields.swizzle}", ""),
    )
    for ok, message, help in rules:
        if not ok:
            raise TilecValueError("V602", f"no tensor map for {what}: {message}", help=help)
