"""Running a traced kernel on a backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from tilec.ir.core import Kernel
from tilec.ir.errors import TilecTypeError
from tilec.runtime import arrays
from tilec.runtime.config import config

BACKENDS = ("cpu", "cuda", "emulator", "interpreter")


def default_backend(values: Sequence[Any]) -> str:
    """The backend that the environment names, else "cuda" if any array is on a GPU, else "cpu"."""
    chosen = config().backend
    if chosen is not None:
        return chosen
    return "cuda" if "cuda" in {arrays.device_of(v) for v in values if arrays.is_array(v)} else "cpu"


def run(
    backend: str, compiled: Callable[[str, Any], Any], kernel: Kernel, grid: tuple[int, ...],
    values: list[Any], *, num_threads: int | None, target: str, options: Any, stream: Any,
) -> None:  # fmt: skip
    """Launch; ``compiled`` gives the Compiled of a target and options."""
    if backend == "cuda":
        from tilec.runtime import cuda

        cuda.launch(_fitting(compiled, target, options, grid), grid, values, stream)
        return
    host = _host_values(kernel, values)
    if backend == "interpreter":
        from tilec.ir.interp import interpret

        interpret(kernel, grid, host)
    elif backend == "emulator":
        from tilec.runtime import emulator

        emulator.launch(_fitting(compiled, target, options, grid), grid, host)
    else:
        machine_code(compiled("cpu", None).artifact).launch(grid, host, num_threads=num_threads)


def _fitting(compiled: Callable[[str, Any], Any], target: str, options: Any, grid: tuple[int, ...]) -> Any:
    """The artifact for a grid: with pairs where they pay, without clusters where not all are whole."""
    from tilec.passes import Options
    from tilec.passes.cluster import IF_IT_PAYS

    found, options = compiled(target, options).artifact, options or Options()
    if options.cluster is None and found.pays(grid):
        return compiled(target, replace(options, cluster=IF_IT_PAYS)).artifact
    return found if found.fits(grid) else compiled(target, replace(options, cluster=1)).artifact


@cache
def machine_code(program: Any) -> Any:
    """The program loaded into this process, once."""
    from tilec.runtime import cpu

    return cpu.load(program)


def _host_values(kernel: Kernel, values: Sequence[Any]) -> list[Any]:
    """Arrays as numpy views; those that the kernel writes must be writable."""
    written = arrays.written_params(kernel)
    host: list[Any] = []
    for i, (param, value) in enumerate(zip(kernel.params, values, strict=True)):
        if not arrays.is_array(value):
            host.append(value)
            continue
        if arrays.device_of(value) != "cpu":
            raise TilecTypeError(
                "T366", f"argument {param.hint!r} is on a GPU, this backend runs on the host",
                help='copy it to the host, or use backend="cuda"',
            )  # fmt: skip
        host.append(arrays.view(value))
        if i in written:
            arrays.require_writable(host[-1], param.hint)
    arrays.require_apart(host, [p.hint for p in kernel.params], written)
    return host
