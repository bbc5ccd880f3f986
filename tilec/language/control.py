"""Loops, checks and compile-time parameters."""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from typing import Any, NoReturn

from tilec.coerce import Like, as_tile, is_number, static_int
from tilec.ir.errors import TilecSyntaxError, TilecTypeError, TilecValueError
from tilec.ir.types import bool_
from tilec.tile import Tile
from tilec.trace import current


class RunRange:
    """What `range` gives: the bounds of a run-time loop and its constraints."""

    def __init__(self, bounds: tuple[Any, Any, Any], options: dict[str, Any]) -> None:
        self.bounds, self.options = bounds, options

    def __iter__(self) -> Iterator[NoReturn]:
        raise TilecSyntaxError(
            "S314", "tl.range is iterated where a run-time loop cannot be captured",
            help="use it only as `for name in tl.range(...)` in a kernel or a plain helper function;"
            " tl.static_range unrolls",
        )  # fmt: skip


def range(
    start: Like, stop: Like | None = None, step: Like = 1, *,
    stages: int | None = None, specialize: bool | None = None, unroll: int | None = None,
) -> RunRange:  # fmt: skip
    """The bounds of a loop that runs on the device, as Python's range.

    ``stages`` (slots of the load pipeline), ``specialize`` (split into producer and
    consumer warp groups) and ``unroll`` are constraints for the scheduler.
    """
    current("tl.range")
    low, high = (0, start) if stop is None else (start, stop)
    bounds = (low, high, step)
    for x, what in zip(bounds, ("start", "stop", "step"), strict=True):
        _check_bound(x, what)
    if is_number(step) and step == 0:
        raise TilecValueError("V310", "the step of tl.range is 0", help="use a positive or negative step")
    return RunRange(bounds, _constraints(stages, specialize, unroll))


def _check_bound(x: Any, what: str) -> None:
    good = x.shape == () and x.dtype.is_int if isinstance(x, Tile) else isinstance(x, int) or is_number(x)
    if not good or isinstance(x, float | bool):
        kind = x.type if isinstance(x, Tile) else f"{type(x).__name__} {x!r}"
        raise TilecTypeError(
            "T331", f"the {what} of tl.range must be an integer scalar, not {kind}",
            help="use // instead of /, or tl.cdiv",
        )  # fmt: skip


def _constraints(stages: Any, specialize: Any, unroll: Any) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name, value in (("stages", stages), ("unroll", unroll)):
        if value is not None:
            options[name] = static_int(value, f"{name} of tl.range")
            if options[name] < 1:
                raise TilecValueError("V311", f"{name} of tl.range is {value}", help="it must be at least 1")
    if specialize is not None:
        if not isinstance(specialize, bool):
            raise TilecTypeError(
                "T332", f"specialize of tl.range must be a bool, not {specialize!r}", help="True or False"
            )
        options["specialize"] = specialize
    return options


def static_range(start: int, stop: int | None = None, step: int = 1) -> builtins.range:
    """Python's range, for a loop that is unrolled while tracing."""
    low, high = (0, start) if stop is None else (start, stop)
    names = ("start", "stop", "step")
    bounds = [static_int(x, f"{n} of tl.static_range") for x, n in zip((low, high, step), names, strict=True)]
    if bounds[2] == 0:
        raise TilecValueError("V310", "the step of tl.static_range is 0", help="use another step")
    return builtins.range(*bounds)


def static_assert(condition: Any, message: str = "") -> None:
    """Refuse to compile unless the condition, known while tracing, holds."""
    if isinstance(condition, Tile):
        raise TilecTypeError(
            "T333", "tl.static_assert needs a condition known when the kernel is compiled",
            help="tl.assume promises a run-time condition",
        )  # fmt: skip
    if not condition:
        raise TilecValueError("V312", f"static_assert failed: {message or 'it is false'}",
                              help="change the constants of this specialisation")  # fmt: skip


def assume(condition: Like) -> None:
    """Promise that a bool scalar is true; the compiler may use it, the interpreter checks it."""
    current("tl.assume")
    if isinstance(condition, bool):
        if not condition:
            raise TilecValueError("V313", "tl.assume is given False", help="it is false for these constants")
        return
    tile = as_tile(condition, "the condition of tl.assume")
    if tile.shape != () or tile.dtype != bool_:
        raise TilecTypeError("T334", f"tl.assume takes a bool scalar, not {tile.type}", help="compare first")
    tile.tracer.emit("assume", [tile])


def static_print(*values: Any) -> None:
    """Print while tracing: Python values as they are, tiles by shape and dtype."""
    print(*values)


class constexpr:
    """Annotation of a compile-time parameter: ``BM: tl.constexpr[int] = 128``.

    ``tl.constexpr[int]`` also checks the type, plain ``tl.constexpr`` takes any hashable value.
    """

    def __init__(self, kind: type | None = None) -> None:
        self.kind = kind

    def __class_getitem__(cls, kind: type) -> constexpr:
        return constexpr(kind)

    def __repr__(self) -> str:
        return f"tl.constexpr[{self.kind.__name__}]" if self.kind else "tl.constexpr"


class Tensor:
    """Annotation of a tensor parameter: ``tl.Tensor``, or with dtype and rank ``tl.Tensor["f16", 2]``.

    In a signature for `compile` the innermost dimension is contiguous and the
    tensor aligned to 16 bytes.
    """

    def __init__(self, dtype: Any, rank: int | None) -> None:
        self.dtype, self.rank = dtype, rank

    def __class_getitem__(cls, item: Any) -> Tensor:
        from tilec.coerce import as_dtype

        dtype, rank, *more = item if isinstance(item, tuple) and len(item) > 1 else (item, None)
        if more:
            raise TilecTypeError("T350", f"tl.Tensor has a dtype and a rank, not {item!r}",
                                 help='write tl.Tensor["f16"] or tl.Tensor["f16", 2]')  # fmt: skip
        found = None if dtype is None else as_dtype(dtype, "the dtype of tl.Tensor")
        return Tensor(found, None if rank is None else static_int(rank, "the rank of tl.Tensor"))

    def __repr__(self) -> str:
        return f'tl.Tensor["{self.dtype}", {self.rank}]'
