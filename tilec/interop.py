"""Kernels as operations of PyTorch and JAX, so that their compilers see them as one opaque step.

The kernel's run-time parameters are the inputs in order, then the outputs. ``outputs`` makes the
outputs from the inputs, and its own parameters say how many inputs there are. Neither package
is imported before it is asked for.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from tilec.ir.errors import TilecTypeError, UnsupportedError
from tilec.kernel import KernelFunction
from tilec.signature import Parameter

Make = Callable[..., Any]


def torch_op(name: str, kernel: KernelFunction, grid: Make, outputs: Make, **constants: Any) -> Any:
    """A `torch.library` custom op "space::name" that launches a kernel.

    ``outputs(*inputs)`` gives an empty tensor or a tuple of them; with fake tensors it is also the
    op's meta function, so `torch.compile` traces through it. ``grid(*inputs)`` gives the grid.
    Tensors on a GPU run on its current stream. The op has no gradient; `register_autograd` of
    what is returned adds one.
    """
    torch = _imported("torch")
    count = _outputs(kernel, outputs)

    def run(*inputs: Any) -> Any:
        made = _tuple(outputs(*inputs))
        stream = {"stream": torch.cuda.current_stream().cuda_stream} if made[0].is_cuda else {}
        kernel[tuple(grid(*inputs))](*inputs, *made, **constants, **stream)
        return made[0] if count == 1 else made

    made = torch.library.custom_op(name, run, mutates_args=(), schema=_schema(kernel, count))
    made.register_fake(lambda *inputs: outputs(*inputs))
    return made


def jax_op(kernel: KernelFunction, grid: Make, outputs: Make, **constants: Any) -> Callable[..., Any]:
    """A function of JAX arrays that launches a kernel on the host, also under `jax.jit`.

    ``outputs(*inputs)`` gives a `jax.ShapeDtypeStruct` or a tuple of them. The kernel runs on the
    CPU as a pure callback: JAX may drop a call whose result nobody uses.
    """
    jax = _imported("jax")
    count = _outputs(kernel, outputs)

    def host(*inputs: Any) -> Any:
        import numpy as np

        pairs = zip(kernel.runtime, inputs, strict=False)
        arrays = [np.asarray(x).item() if p.kind == "scalar" else np.asarray(x) for p, x in pairs]
        made = tuple(np.empty(s.shape, s.dtype) for s in _tuple(outputs(*arrays)))
        kernel[tuple(grid(*arrays))](*arrays, *made, **constants)
        return made[0] if count == 1 else made

    return lambda *inputs: jax.pure_callback(host, outputs(*inputs), *inputs, vmap_method="sequential")


def _imported(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UnsupportedError(
            "U320", f"{name} cannot be imported: {error}", help=f"pip install {name}"
        ) from None


def _outputs(kernel: KernelFunction, outputs: Make) -> int:
    """How many parameters of the kernel are outputs."""
    inputs = len(inspect.signature(outputs).parameters)
    count = len(kernel.runtime) - inputs
    if count < 1:
        names = ", ".join(p.name for p in kernel.runtime)
        raise TilecTypeError(
            "T370", f"outputs() takes {inputs} inputs, which leaves no output of kernel {kernel.name}",
            help=f"its run-time parameters are {names}: inputs first, then outputs",
        )  # fmt: skip
    return count


def _tuple(made: Any) -> tuple[Any, ...]:
    return tuple(made) if isinstance(made, Sequence) else (made,)


def _schema(kernel: KernelFunction, count: int) -> str:
    """The op's types in torch's notation: tensors unless a parameter is annotated as a number."""
    inputs = kernel.runtime[: len(kernel.runtime) - count]
    types = ", ".join(f"{_torch_type(p)} {p.name}" for p in inputs)
    return f"({types}) -> " + ("Tensor" if count == 1 else f"({', '.join(['Tensor'] * count)})")


def _torch_type(parameter: Parameter) -> str:
    if parameter.kind != "scalar" or parameter.dtype is None:
        return "Tensor"
    name = parameter.dtype.name
    return "float" if "float" in name else "bool" if name == "bool" else "SymInt"
