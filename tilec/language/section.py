"""Sections: tensors whose bounds are known only inside of the kernel."""

from __future__ import annotations

from tilec.coerce import Like, scalar_index, static_axis
from tilec.ir.errors import TilecTypeError, UnsupportedError
from tilec.tile import TensorArg


def section(tensor: TensorArg, start: Like, stop: Like, axis: int = 0) -> TensorArg:
    """The tensor of the elements [start, stop) along an axis: the same memory with bounds of its own.

    Index 0 of the section is element ``start``; what lies beyond ``stop`` is outside of it, so
    that loads give the pad value there and stores drop it. Bounds are cut to those of ``tensor``.
    """
    if not isinstance(tensor, TensorArg):
        kind = type(tensor).__name__
        raise TilecTypeError("T336", f"tl.section takes a tensor argument, not {kind}",
                             help="pass the array as an argument of the kernel")  # fmt: skip
    tracer = tensor.tracer
    if len(tracer.stack) > 1 or tensor.of is not None:
        where = tracer.region.what if len(tracer.stack) > 1 else "a section"
        raise UnsupportedError("U321", f"tl.section of {tensor.name!r} inside of {where}",
                               help="make sections of arguments, before loops and branches")  # fmt: skip
    at = static_axis(axis, tensor.ndim, f"tl.section of {tensor.name!r}")
    bounds = [scalar_index(x, f"{what} of tl.section", tracer)
              for x, what in ((start, "start"), (stop, "stop"))]  # fmt: skip
    return tracer.section(tensor, bounds, at)
