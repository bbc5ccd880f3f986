"""The arguments of `tilec emulate`: text such as `f16[64,32]:random` becomes arrays and numbers."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from tilec.ir.errors import TilecValueError

GRAMMAR = """\
f32[4,64]            an array of zeros; dtypes are numpy's or i8, u32, f16, bf16, e4m3, ...
f32[4,64]:random     filled: zeros, ones, arange, random (0 to 1), normal, or a .npy file
map(f16[64,32]:random,box=16x32,swizzle=64B)
                     a tensor map; also element=NAME, nan
12  0.5  i64=12      a number, in the type of its parameter or in one of its own
hex:00ff             bytes"""

_SHORT = {
    "i8": "int8", "i16": "int16", "i32": "int32", "i64": "int64", "u8": "uint8", "u16": "uint16",
    "u32": "uint32", "u64": "uint64", "f16": "float16", "f32": "float32", "f64": "float64",
    "bf16": "bfloat16", "e4m3": "float8_e4m3fn", "e5m2": "float8_e5m2",
}  # fmt: skip
_ARRAY = re.compile(r"(\w+)\[([\d, ]*)\](?::(.+))?$")
_MAP = re.compile(r"map\((.*)\)$")
_SPLIT = re.compile(r",(?![^\[]*\])")


def parse_argument(text: str, seed: int = 0) -> Any:
    """One argument. ``seed`` fills random arrays."""
    found = _MAP.match(text)
    if found:
        return _map(found[1], seed)
    if _ARRAY.match(text):
        return _array(text, seed)
    if text.startswith("hex:"):
        return _guarded(lambda: bytes.fromhex(text[4:]), text)
    dtype, equals, value = text.rpartition("=")
    if equals:
        return _dtype(dtype, text).type(_number(value, text))
    return _number(text, text)


def _number(text: str, whole: str) -> Any:
    try:
        return int(text, 0)
    except ValueError:
        return _guarded(lambda: float(text), whole)


def _dtype(name: str, text: str) -> np.dtype[Any]:
    import ml_dtypes

    full = _SHORT.get(name, name)
    dtype: np.dtype[Any] = _guarded(lambda: np.dtype(getattr(ml_dtypes, full, full)), text)
    return dtype


def _guarded(make: Callable[[], Any], text: str) -> Any:
    try:
        return make()
    except (ValueError, TypeError, OSError, EOFError) as error:
        raise TilecValueError("V426", f"argument {text!r}: {error}", help=f"write\n{GRAMMAR}") from None


def _array(text: str, seed: int) -> Any:
    found = _ARRAY.match(text)
    if found is None:
        raise TilecValueError("V426", f"argument {text!r} is no array", help=f"write\n{GRAMMAR}")
    name, sizes, fill = found.groups()
    shape = tuple(int(s) for s in sizes.split(",") if s.strip())
    dtype = _dtype(name, text)
    return _guarded(lambda: np.ascontiguousarray(_filled(fill or "zeros", shape, dtype, seed)), text)


def _filled(fill: str, shape: tuple[int, ...], dtype: np.dtype[Any], seed: int) -> Any:
    if fill.endswith(".npy"):
        return np.load(fill).astype(dtype).reshape(shape)
    rng, count = np.random.default_rng(seed), int(np.prod(shape))
    makers: dict[str, Callable[[], Any]] = {
        "zeros": lambda: np.zeros(count),
        "ones": lambda: np.ones(count),
        "arange": lambda: np.arange(count),
        "random": lambda: rng.random(count) if dtype.kind not in "iub" else rng.integers(0, 100, count),
        "normal": lambda: rng.standard_normal(count),
    }
    if fill not in makers:
        raise ValueError(f"{fill!r} fills no array: {', '.join(makers)} or a .npy file")
    return makers[fill]().astype(dtype).reshape(shape)


def _map(inner: str, seed: int) -> Any:
    from tilec.runtime.emulator.arguments import Map

    first, *rest = (p.strip() for p in _SPLIT.split(inner))
    array = _array(first, seed)
    options = {name: value for name, _, value in (p.partition("=") for p in rest)}
    box = tuple(_number(s, inner) for s in options.pop("box", "").split("x") if s)
    swizzle, element = options.pop("swizzle", "none"), options.pop("element", "")
    nan = options.pop("nan", None) is not None
    if options or any(not isinstance(side, int) for side in box):
        raise TilecValueError("V426", f"argument map({inner})", help=f"write\n{GRAMMAR}")
    return Map(array, box or array.shape, swizzle, element, nan)
