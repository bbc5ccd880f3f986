"""Names of the language that do not work yet: each says what to use instead."""

from __future__ import annotations

from typing import Any, NoReturn

from tilec.ir.errors import UnsupportedError

INSTEAD: dict[str, str] = {
    "cat": "store the parts next to each other, or select with tl.where",
    "split": "load the parts separately",
    "join": "store the parts separately",
    "flip": "load with reversed indices through tl.gather",
    "cumsum": "multiply by a triangular matrix: tl.dot, or sum a masked tile",
    "cumprod": "sum logarithms with a triangular tl.dot",
    "associative_scan": "write the scan as a loop over tl.range",
    "reduce": "use tl.sum, max, min, prod, any, all or xor_sum",
    "sort": "sort on the host, or count smaller elements with tl.sum(x[:, None] > x[None, :], axis=1)",
    "topk": "repeat tl.argmax and tl.where",
    "histogram": "count with tl.atomic_add",
    "rand": "pass random numbers as a tensor",
    "randn": "pass random numbers as a tensor",
    "randint": "pass random numbers as a tensor",
    "dot_scaled": "scale the operands first, then tl.dot",
    "atomic_cas": "use tl.atomic_xchg, atomic_max or atomic_min",
    "device_print": "store the values into a tensor and print that; tl.static_print shows shapes",
    "device_assert": "store a flag into a tensor and check it on the host",
    "view": "use tl.bitcast for equal widths, tl.reshape for the shape",
}


def _later(name: str, instead: str) -> Any:
    def unsupported(*args: Any, **kwargs: Any) -> NoReturn:
        raise UnsupportedError("U304", f"tl.{name} is not supported yet", help=instead)

    unsupported.__name__ = unsupported.__qualname__ = name
    unsupported.__doc__ = f"Not supported yet. Instead: {instead}."
    return unsupported


FUNCTIONS: dict[str, Any] = {name: _later(name, instead) for name, instead in INSTEAD.items()}
