"""Array arguments: zero-copy views, device, and the facts of a specialisation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from tilec.ir.core import Kernel
from tilec.ir.errors import TilecTypeError, TilecValueError
from tilec.ir.ops import written_tensors
from tilec.ir.types import TensorType, dtype_of
from tilec.runtime.dlpack import exported

Array = np.ndarray[Any, Any]
Device = Literal["cpu", "cuda"]

# Device codes of DLPack: host, pinned host, and CUDA's device and managed memory.
_CPU_CODES, _CUDA_CODES = (1, 3), (2, 13)

# Steps of the search for a common element of two strided arrays: well below a millisecond.
_OVERLAP_WORK: Any = 1000


@dataclass(frozen=True)
class Described:
    """An array on any device: shape and strides in elements, address in bytes."""

    tensor: TensorType
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    address: int
    writable: bool


def is_array(x: Any) -> bool:
    """Whether ``x`` can be a tensor argument; numpy scalars are numbers, not arrays."""
    names = ("__array_interface__", "__dlpack__", "__cuda_array_interface__")
    return not isinstance(x, np.generic) and any(hasattr(x, n) for n in names)


def device_of(x: Any) -> Device:
    """Where the elements of an array are. Pinned host memory counts as "cpu"."""
    if isinstance(x, np.ndarray):
        return "cpu"
    if hasattr(x, "__dlpack_device__"):
        code = int(x.__dlpack_device__()[0])
        if code not in _CPU_CODES + _CUDA_CODES:
            raise TilecTypeError("T201", f"{_what(x)} is on a device of DLPack type {code}",
                                 help="move it to the CPU or to a CUDA device")  # fmt: skip
        return "cuda" if code in _CUDA_CODES else "cpu"
    return "cuda" if hasattr(x, "__cuda_array_interface__") else "cpu"


def view(x: Any) -> Array:
    """A numpy view of a CPU array, without a copy; numpy arrays as they are.

    Raises TilecTypeError for what is no array, is not on the CPU, or has elements
    that a kernel cannot read (objects, foreign byte order, unaligned strides).
    """
    if isinstance(x, np.ndarray):
        array = x
    elif not is_array(x):
        raise TilecTypeError("T202", f"{_what(x)} is not an array",
                             help="pass a numpy array or an object with __dlpack__")  # fmt: skip
    elif device_of(x) != "cpu":
        raise TilecTypeError("T203", f"{_what(x)} is not in CPU memory", help="copy it to the CPU first")
    elif hasattr(x, "__dlpack__"):
        array = exported(x).view()
    else:
        array = np.asarray(x)
    _check_elements(array)
    return array


def describe(x: Any) -> Described:
    """Type, shape, strides and address of an array on the CPU or a CUDA device."""
    if device_of(x) == "cpu":
        array = view(x)
        strides = tuple(s // array.itemsize for s in array.strides)
        found = array.dtype, array.shape, strides, array.ctypes.data, array.flags.writeable
    elif hasattr(x, "__dlpack__"):
        raw = exported(x)
        found = raw.dtype, raw.shape, raw.strides, raw.address, raw.writable
    else:
        found = _cuda_interface(x)
    dtype, shape, strides, address, writable = found
    kind = dtype_of(dtype)
    facts = _facts(shape, strides, address, kind.bytes)
    return Described(TensorType(kind, len(shape), *facts), shape, strides, address, writable)


def tensor_type(x: Any) -> TensorType:
    """The type of an array argument, with the facts that code may rely on.

    ``contiguous`` is the last dimension of stride 1 (or else the last of extent
    1, whose stride never matters). ``aligned``: base address and all other
    strides, but those of extents below 2, are multiples of 16 bytes, and none
    is negative (tensor maps have no negative strides).
    """
    return describe(x).tensor


def is_divisible(x: Any) -> bool:
    """Whether the extent of an array's contiguous dimension is a multiple of 16 bytes."""
    found = describe(x)
    axis = found.tensor.contiguous
    return axis is not None and found.shape[axis] * found.tensor.dtype.bytes % 16 == 0


def require_writable(array: Array, name: str) -> None:
    """Refuse a read-only array as an argument that the kernel writes."""
    if not array.flags.writeable:
        raise TilecValueError("V201", f"argument {name!r} is read-only, but the kernel writes it",
                              help="pass a writable copy")  # fmt: skip


def require_apart(values: Sequence[Any], names: Sequence[str], written: set[int]) -> None:
    """Refuse an array that is written and shares elements with another one; values are views or numbers."""
    tensors = [i for i, v in enumerate(values) if isinstance(v, np.ndarray)]
    for i in sorted(written):
        for j in tensors:
            if i != j and _overlap(values[i], values[j]):
                raise TilecValueError(
                    "V202",
                    f"arguments {names[i]!r} and {names[j]!r} overlap, and the kernel writes {names[i]!r}",
                    help="pass a copy, or use one parameter for both if they are the same array",
                )


def _overlap(a: Array, b: Array) -> bool:
    """Whether two arrays have an element in common; False where that is too hard to tell."""
    if not np.may_share_memory(a, b):
        return False
    try:
        return np.shares_memory(a, b, max_work=_OVERLAP_WORK)
    except np.exceptions.TooHardError:
        return False


def written_params(kernel: Kernel) -> set[int]:
    """Indices of the parameters that the kernel may write."""
    written = written_tensors(kernel.body)
    return {i for i, p in enumerate(kernel.params) if p in written}


def _facts(
    shape: tuple[int, ...], strides: tuple[int, ...], address: int, itemsize: int
) -> tuple[int | None, bool]:
    unit = [d for d, s in enumerate(strides) if s == 1] or [d for d, n in enumerate(shape) if n <= 1]
    contiguous = unit[-1] if unit else None
    others = [s for d, (n, s) in enumerate(zip(shape, strides, strict=True)) if d != contiguous and n > 1]
    aligned = all(n % 16 == 0 for n in (address, *(s * itemsize for s in others)))
    return contiguous, aligned and all(s >= 0 for s in others)


def _check_elements(array: Array) -> None:
    if not array.dtype.isnative:
        raise TilecTypeError("T204", f"array of {array.dtype} has a foreign byte order",
                             help="convert with x.astype(x.dtype.newbyteorder('='))")  # fmt: skip
    if array.dtype.kind in "OSUMm" or array.dtype.names is not None:
        raise TilecTypeError("T205", f"array of {array.dtype} has no numbers as elements",
                             help="convert it to a number dtype first")  # fmt: skip
    dtype_of(array.dtype)
    steps = [s for n, s in zip(array.shape, array.strides, strict=True) if n > 1]
    if any(s % array.itemsize for s in steps):
        raise TilecTypeError("T206", f"strides {array.strides} are no multiples of {array.itemsize} bytes",
                             help="pass a copy: np.ascontiguousarray(x)")  # fmt: skip
    if array.ctypes.data % array.dtype.alignment:
        raise TilecTypeError("T206", f"the address is no multiple of {array.dtype.alignment} bytes",
                             help="pass a copy: np.ascontiguousarray(x)")  # fmt: skip


def _cuda_interface(x: Any) -> tuple[np.dtype[Any], tuple[int, ...], tuple[int, ...], int, bool]:
    info = x.__cuda_array_interface__
    dtype, shape = np.dtype(info["typestr"]), tuple(info["shape"])
    steps = info.get("strides")
    if steps is None:
        steps = [dtype.itemsize * int(np.prod(shape[d + 1 :], dtype=np.int64)) for d in range(len(shape))]
    address, read_only = info["data"]
    return dtype, shape, tuple(s // dtype.itemsize for s in steps), int(address), not read_only


def _what(x: Any) -> str:
    return f"an argument of type {type(x).__module__}.{type(x).__qualname__}"
