"""DLPack capsules read with ctypes: numpy's own reader knows no bfloat16 and no float8.

Layout and type codes are those of dlpack.h (DLPack 1.1, Apache-2.0).
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from tilec.ir.errors import TilecTypeError

_READ_ONLY = 1
_DTYPES: dict[tuple[int, int], Any] = {
    **{(0, bits): f"int{bits}" for bits in (8, 16, 32, 64)},
    **{(1, bits): f"uint{bits}" for bits in (8, 16, 32, 64)},
    **{(2, bits): f"float{bits}" for bits in (16, 32, 64)},
    (4, 16): ml_dtypes.bfloat16,
    (6, 8): "bool",
    (10, 8): ml_dtypes.float8_e4m3fn,
    (12, 8): ml_dtypes.float8_e5m2,
}


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p), ("device_type", ctypes.c_int32), ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32), ("code", ctypes.c_uint8), ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16), ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)), ("byte_offset", ctypes.c_uint64),
    )  # fmt: skip


class _Versioned(ctypes.Structure):
    _fields_ = (
        ("major", ctypes.c_uint32), ("minor", ctypes.c_uint32), ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p), ("flags", ctypes.c_uint64), ("tensor", _Tensor),
    )  # fmt: skip


@dataclass(frozen=True)
class Exported:
    """What an object says through ``__dlpack__``; ``owner`` keeps the memory alive."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    address: int
    writable: bool
    owner: Any

    def view(self) -> np.ndarray[Any, Any]:
        """A numpy view of host memory."""
        raw = np.asarray(_Memory(self)) if self.address else np.empty(self.shape, self.dtype)
        return raw.view(self.dtype)


class _Memory:
    """Memory as numpy's array interface sees it; numpy keeps it as the view's base."""

    def __init__(self, source: Exported) -> None:
        size = source.dtype.itemsize
        self.source = source
        self.__array_interface__ = {
            "version": 3, "typestr": f"<u{size}", "shape": source.shape,
            "strides": tuple(s * size for s in source.strides),
            "data": (source.address, not source.writable),
        }  # fmt: skip


def exported(x: Any) -> Exported:
    """Read ``x.__dlpack__()``. The capsule stays unconsumed and frees itself."""
    capsule = _capsule(x)
    tensor, writable = _read(capsule)
    dtype = _DTYPES.get((tensor.code, tensor.bits))
    if dtype is None or tensor.lanes != 1:
        raise TilecTypeError(
            "T207", f"DLPack element type (code {tensor.code}, {tensor.bits} bits) is not supported",
            help="convert to a dtype of tilec first",
        )  # fmt: skip
    shape = tuple(tensor.shape[d] for d in range(tensor.ndim))
    if tensor.strides:
        strides = tuple(tensor.strides[d] for d in range(tensor.ndim))
    else:
        strides = tuple(int(np.prod(shape[d + 1 :], dtype=np.int64)) for d in range(tensor.ndim))
    address = (tensor.data or 0) + tensor.byte_offset
    return Exported(np.dtype(dtype), shape, strides, address, writable, (x, capsule))


def _capsule(x: Any) -> Any:
    try:
        return x.__dlpack__(max_version=(1, 1))
    except TypeError:
        pass  # Exporters from before DLPack 1.0 know no max_version.
    except (BufferError, RuntimeError) as error:
        raise TilecTypeError("T208", f"{type(x).__qualname__} gives no DLPack capsule: {error}") from None
    try:
        return x.__dlpack__()
    except (BufferError, RuntimeError, TypeError) as error:
        raise TilecTypeError("T208", f"{type(x).__qualname__} gives no DLPack capsule: {error}") from None


def _read(capsule: Any) -> tuple[_Tensor, bool]:
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    valid = ctypes.pythonapi.PyCapsule_IsValid
    valid.restype, valid.argtypes = ctypes.c_int, (ctypes.py_object, ctypes.c_char_p)
    if valid(capsule, b"dltensor_versioned"):
        managed = _Versioned.from_address(pointer(capsule, b"dltensor_versioned"))
        return managed.tensor, not managed.flags & _READ_ONLY
    return _Tensor.from_address(pointer(capsule, b"dltensor")), True
