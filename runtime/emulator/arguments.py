"""Arguments of PTX from anywhere: arrays, tensor maps, scalars and structs become its parameters."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tilec.ir.errors import TilecValueError
from tilec.ir.ptx.module import TYPE_BYTES, Entry, EntryParam, param_layout
from tilec.runtime.emulator import tensormap
from tilec.runtime.emulator.numbers import Array
from tilec.runtime.emulator.spaces import GlobalMemory

_ELEMENTS = {
    "uint8": "UINT8", "int8": "UINT8", "uint16": "UINT16", "int16": "UINT16", "uint32": "UINT32",
    "int32": "INT32", "uint64": "UINT64", "int64": "INT64", "float16": "FLOAT16", "float32": "FLOAT32",
    "float64": "FLOAT64", "bfloat16": "BFLOAT16",
}  # fmt: skip


_PACKED = {"16U4": 4, "16U6": 6}


@dataclass(frozen=True)
class Map:
    """A tensor map (CUtensorMap) of an array, as an argument. ``box`` has a side for each axis of the
    array, in its order; ``swizzle`` is one of ``tensormap.SWIZZLES``; ``element`` a name after
    CU_TENSOR_MAP_DATA_TYPE_ (default: by the array's dtype; 8-bit floats are UINT8; elements of 4
    and 6 bits are packed in an array of bytes, and the box counts elements); with ``nan``
    elements outside the array are NaN instead of 0; ``steps`` are traversal strides."""

    array: Array
    box: tuple[int, ...]
    swizzle: str = "none"
    element: str = ""
    nan: bool = False
    steps: tuple[int, ...] = ()

    def encode(self, base: int) -> bytes:
        """The 128 bytes of the emulator's tensor map, for the array at address ``base``."""
        a = self.array
        if len(self.box) != a.ndim or self.swizzle not in tensormap.SWIZZLES:
            raise TilecValueError("V422", f"a tensor map with box {self.box} and swizzle {self.swizzle}")
        if a.ndim > 5 or a.strides[-1] != a.itemsize:
            raise TilecValueError("V422", "a tensor map needs 1 to 5 axes, the last one contiguous")
        name = self.element or _ELEMENTS.get(a.dtype.name, f"UINT{8 * a.itemsize}")
        code = tensormap.element_code(name)
        bits = _PACKED.get(name[:4], 8 * tensormap.ELEMENTS[code][1])
        if max(bits, 8) != 8 * a.itemsize:
            raise TilecValueError("V422", f"elements of type {name} in an array of {a.dtype}")
        dims = (8 * a.itemsize * a.shape[-1] // bits, *a.shape[-2::-1])
        return tensormap.encode(tensormap.TensorMap(
            base, dims, a.strides[-2::-1], tuple(self.box[::-1]), code,
            tensormap.SWIZZLES.index(self.swizzle), tuple(self.steps[::-1]), int(self.nan),
        ))  # fmt: skip


@dataclass(frozen=True)
class Packed:
    """A struct passed by value: ``format`` as in Python's struct module, and its values, in which
    an array is its address."""

    format: str
    values: tuple[Any, ...]


Argument = Any  # an array, Map, Packed, bytes, a numpy scalar, an int, a float or a bool


class Arguments:
    """Arrays placed in global memory and the parameter space of an entry. An array that is
    passed more than once, also within maps and structs, is placed once."""

    def __init__(self, entry: Entry, args: Sequence[Argument], memory: GlobalMemory) -> None:
        self.memory = memory
        self._places: dict[int, tuple[Array, int]] = {}
        if len(args) != len(entry.params):
            listed = ", ".join(f"{p.name}: {_type(p)}" for p in entry.params)
            raise TilecValueError(
                "V423", f"{len(args)} arguments for {entry.name}, which takes {len(entry.params)}: {listed}"
            )
        where, size = param_layout(entry.params)
        buffer = bytearray(size)
        for i, (param, arg) in enumerate(zip(entry.params, args, strict=True)):
            raw = self._bytes(param, arg, i)
            at, wanted = where[param.name], TYPE_BYTES[param.type] * (param.count or 1)
            if len(raw) != wanted:
                text = f"argument {i} has {len(raw)} bytes, parameter {param.name} ({_type(param)}) {wanted}"
                raise TilecValueError("V424", text)
            buffer[at : at + wanted] = raw
        self.params = bytes(buffer)

    def address(self, array: Array) -> int:
        """Where an array lies in global memory."""
        if id(array) not in self._places:
            name = f"array {len(self._places)}"
            base = self.memory.add(np.ascontiguousarray(array).tobytes(), 256, name)
            self._places[id(array)] = (array, base)
        return self._places[id(array)][1]

    def read_back(self) -> None:
        """Copy global memory into the arrays."""
        for array, base in self._places.values():
            if array.flags.writeable:
                raw = self.memory.bytes_at(base, array.nbytes)
                array[...] = np.frombuffer(raw.tobytes(), array.dtype).reshape(array.shape)

    def _bytes(self, param: EntryParam, arg: Argument, position: int) -> bytes:
        if isinstance(arg, Map):
            return arg.encode(self.address(_contiguous(arg.array, position)))
        if isinstance(arg, Packed):
            values = [self._number(v, position) for v in arg.values]
            return _guarded(lambda: struct.pack(arg.format, *values), position)
        if isinstance(arg, bytes):
            return arg
        if isinstance(arg, np.ndarray) and arg.ndim:
            return self.address(_contiguous(arg, position)).to_bytes(8, "little")
        return _scalar(param, arg, position)

    def _number(self, value: Any, position: int) -> Any:
        return self.address(_contiguous(value, position)) if isinstance(value, np.ndarray) else value


def _type(param: EntryParam) -> str:
    return param.type if param.count is None else f"{param.type}[{param.count}]"


def _contiguous(array: Array, position: int) -> Array:
    if not array.flags.c_contiguous:
        raise TilecValueError("V422", f"argument {position} is not C-contiguous: pass a copy")
    return array


def _scalar(param: EntryParam, arg: Argument, position: int) -> bytes:
    """A number in the type of its parameter. numpy scalars keep their own type."""
    if isinstance(arg, (np.generic, np.ndarray)):
        return bytes(arg.tobytes())
    size, kind = TYPE_BYTES[param.type], param.type[0]
    if isinstance(arg, float):
        if param.type not in ("f16", "f32", "f64", "b16", "b32", "b64"):
            raise TilecValueError(
                "V424", f"argument {position} is a float, parameter {param.name} {param.type}"
            )
        return np.array(arg, f"f{size}").tobytes()
    if kind == "f":
        return np.array(arg, f"f{size}").tobytes()
    return _guarded(lambda: int(arg).to_bytes(size, "little", signed=int(arg) < 0), position)


def _guarded(make: Any, position: int) -> bytes:
    try:
        return bytes(make())
    except (struct.error, OverflowError, TypeError, ValueError) as error:
        raise TilecValueError("V424", f"argument {position} does not fit its parameter: {error}") from None
