"""The `@kernel` object: specialise, trace, compile, launch."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from types import FunctionType
from typing import TYPE_CHECKING, Any

from tilec import signature as sig
from tilec.convert import capture_kernel, location
from tilec.dependencies import outside_values, unchanged
from tilec.ir.core import Kernel
from tilec.ir.errors import TilecError, TilecSyntaxError, TilecTypeError, TilecValueError
from tilec.ir.forms import verify
from tilec.ir.loc import located
from tilec.ir.types import TileType, Type
from tilec.launch import BACKENDS, default_backend, machine_code, run
from tilec.repeat import Plans, kind_of, plan_of
from tilec.runtime.arrays import written_params
from tilec.trace import Constant, active, trace

if TYPE_CHECKING:
    from tilec.driver import Compiled

Grid = int | Sequence[int] | Callable[[Mapping[str, Any]], int | Sequence[int]]


def kernel(fn: Callable[..., None]) -> KernelFunction:
    """Make a function a kernel: ``kernel[grid](arguments...)`` runs it for every grid position."""
    if not isinstance(fn, FunctionType):
        raise TilecSyntaxError(
            "S313", f"@tilec.kernel decorates a function, not {type(fn).__name__}",
            help="write @tilec.kernel above a plain def, below no other decorator",
        )  # fmt: skip
    return KernelFunction(fn)


class KernelFunction:
    """A kernel: traced once for each set of argument types and constants."""

    def __init__(self, fn: FunctionType) -> None:
        functools.update_wrapper(self, fn)
        self.fn = fn
        self.params = sig.parameters(fn)
        self.runtime = tuple(p for p in self.params if p.kind != "constexpr")
        self.constexprs = tuple(p.name for p in self.params if p.kind == "constexpr")
        self.name: str = fn.__name__
        self._lock = threading.RLock()
        self._traced: dict[Any, tuple[Kernel, Sequence[Any]]] = {}
        self._compiled: dict[Any, Compiled] = {}
        self.plans = Plans()

    def __repr__(self) -> str:
        return f"<tilec kernel {self.name}({', '.join(p.name for p in self.params)})>"

    def __getitem__(self, grid: Grid) -> Launcher:
        return Launcher(self, grid)

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        """Kernels are launched with a grid; inside of another kernel the call is inlined."""
        if active() is None:
            raise TilecTypeError(
                "T362", f"kernel {self.name} is called without a grid", loc=location(self.fn),
                help=f"{self.name}[grid](...), with the number of program instances as grid",
            )  # fmt: skip
        capture_kernel(self.fn)(*args, **kwargs)

    def trace(self, signature: Sequence[Any], **constexprs: Any) -> Kernel:
        """The TILE kernel for these argument types (see `compile`) and constants."""
        with _hide_frames(), located(location(self.fn)):
            types, constants = self._specialise(signature, constexprs)
            return self._trace(types, constants)

    def compile(
        self, signature: Sequence[Any], target: str = "sm_90a", options: Any = None, **keywords: Any
    ) -> Compiled:
        """Compile without a device.

        ``signature`` has a type for each run-time parameter: ``tl.Tensor["f16", 2]``,
        "f16[2]" (row-major and aligned to 16 bytes), "f16[2, divisible]" (rows of whole
        16 bytes, too: less code), "f16[2, contiguous=0, unaligned]",
        a scalar "i32", or a dtype. Keywords are constexpr parameters and fields of
        `tilec.driver.Options`.
        """
        from tilec.driver import Options

        known = {f.name for f in fields(Options)}
        constexprs = {k: v for k, v in keywords.items() if k in self.constexprs or k not in known}
        chosen = {k: v for k, v in keywords.items() if k not in constexprs}
        with _hide_frames(), located(location(self.fn)):
            types, constants = self._specialise(signature, constexprs)
            _check_options(None, options)
            if chosen and options is not None:
                raise TilecTypeError(
                    "T363", "options are given twice", help="pass options= or single keywords"
                )
            return self._compile(self._trace(types, constants), target, options or Options(**chosen))

    def _specialise(
        self, signature: Sequence[Any], constexprs: Mapping[str, Any]
    ) -> tuple[dict[str, Type], dict[str, Any]]:
        items = [signature] if isinstance(signature, str) else list(signature)
        if len(items) != len(self.runtime):
            want = len(self.runtime)
            raise TilecTypeError(
                "T364", f"kernel {self.name} has {want} run-time parameters, the signature {len(items)}",
                help=f"give one type for each of {', '.join(p.name for p in self.runtime)}",
            )  # fmt: skip
        pairs = list(zip(self.runtime, items, strict=True))
        types = {p.name: sig.check_type(p, sig.parse_type(x, p.name)) for p, x in pairs}
        unknown = set(constexprs) - set(self.constexprs)
        if unknown:
            raise TilecTypeError(
                "T360", f"{sorted(unknown)[0]!r} is no constexpr parameter of kernel {self.name}",
                help=f"its constexpr parameters are {', '.join(self.constexprs) or 'none'}",
            )  # fmt: skip
        _, constants = sig.split(self.name, self.params, (), {**types, **constexprs})
        return types, constants

    def _trace(self, types: Mapping[str, Type], constants: Mapping[str, Any]) -> Kernel:
        key = _key(types, constants)
        with self._lock:
            if key not in self._traced or not unchanged(self._traced[key][1]):
                arguments: dict[str, Type | Constant] = {
                    p.name: Constant(constants[p.name]) if p.name in constants else types[p.name]
                    for p in self.params
                }
                fn = capture_kernel(self.fn)
                traced, helpers = trace(
                    fn, self.name, self.fn.__code__.co_filename, arguments, location(self.fn)
                )
                verify(traced)
                seen = [(f, outside_values(f)) for f in dict.fromkeys([self.fn, *helpers])]
                self._traced[key] = traced, seen
            return self._traced[key][0]

    def _compile(self, traced: Kernel, target: str, options: Any) -> Compiled:
        from tilec import driver

        key = traced, target, options
        with self._lock:
            if key not in self._compiled:
                self._compiled[key] = driver.compile(traced, target, options)
            return self._compiled[key]


class Launcher:
    """A kernel with a grid, ready to be called with arguments."""

    def __init__(self, kernel: KernelFunction, grid: Grid) -> None:
        self.kernel, self.grid = kernel, grid

    def __call__(
        self, *args: Any, backend: str | None = None, num_threads: int | None = None,
        target: str = "sm_90a", options: Any = None, stream: Any = None, **keywords: Any,
    ) -> None:  # fmt: skip
        """Run on the arguments; arrays are written in place.

        ``backend`` is "cpu", "cuda", "emulator" or "interpreter"; by default arrays on
        a GPU run there, others on the CPU. ``target`` and ``options`` are for the GPU.
        """
        kernel = self.kernel
        usual = backend is None and options is None and stream is None and active() is None
        kind = (
            kind_of(args, keywords) if usual and (num_threads is None or type(num_threads) is int) else None
        )
        if kind is not None and self._again(args, *kind, num_threads):
            return
        with _hide_frames(), located(location(kernel.fn)):
            if active() is not None:
                raise TilecSyntaxError("S309", f"kernel {kernel.name} is launched inside of a kernel",
                                       help="launch it from the host")  # fmt: skip
            values, constants = sig.split(kernel.name, kernel.params, args, keywords)
            types = {p.name: sig.argument_type(p, values[p.name]) for p in kernel.runtime}
            chosen = backend or default_backend(list(values.values()))
            if chosen not in BACKENDS:
                raise TilecValueError(
                    "V353", f"no backend named {chosen!r}", help=f"one of {', '.join(BACKENDS)}"
                )
            if chosen in ("cuda", "emulator"):
                types = {n: sig.with_extents(t, values[n]) for n, t in types.items()}
            _check_options(num_threads, options)
            grid = resolve_grid(self.grid, constants)
            traced = kernel._trace(types, constants)
            run(
                chosen, lambda where, extra: kernel._compile(traced, where, extra),
                traced, grid, list(values.values()),
                num_threads=num_threads, target=target, options=options, stream=stream,
            )  # fmt: skip
            if kind is not None and chosen == "cpu" and len(args) >= len(kernel.runtime):
                self._remember(kind[0], args, traced, types, constants)

    def _again(self, args: tuple[Any, ...], key: Any, addresses: list[int], num_threads: int | None) -> bool:
        """Launch as before, if there was a launch of this kind and nothing speaks against it."""
        plan = self.kernel.plans.find(key)
        if plan is None or (num_threads is not None and num_threads < 1):
            return False
        count = len(plan.reach)
        values = plan.values(args[:count], addresses[:count])
        if values is None:
            return False
        with _hide_frames():
            grid = self.grid
            if type(grid) is not tuple or any(type(n) is not int or n < 1 for n in grid):
                grid = resolve_grid(grid, plan.constants)
            plan.prepared.launch(grid, values, num_threads)
        return True

    def _remember(
        self, key: Any, args: tuple[Any, ...], traced: Kernel, types: Mapping[str, Type],
        constants: Mapping[str, Any],
    ) -> None:  # fmt: skip
        """Keep what a launch on the CPU found out; its run-time parameters come first."""
        kernel, count = self.kernel, len(self.kernel.runtime)
        if tuple(p.name for p in kernel.params[:count]) != tuple(p.name for p in kernel.runtime):
            return
        if any(p.kind == "any" and isinstance(types[p.name], TileType) for p in kernel.runtime):
            return
        with kernel._lock:
            seen = kernel._traced[_key(types, constants)][1]
        prepared = machine_code(kernel._compile(traced, "cpu", None).artifact).prepare(args[:count])
        plan = plan_of(prepared, args[:count], written_params(traced), [f for f, _ in seen], constants)
        if plan is not None:
            kernel.plans.keep(key, plan)


def resolve_grid(grid: Grid, meta: Mapping[str, Any]) -> tuple[int, ...]:
    """One to three positive extents from an int, a tuple or a function of the constants."""
    if callable(grid):
        try:
            grid = grid(dict(meta))
        except KeyError as error:
            raise TilecValueError(
                "V354", f"the grid function asks for {error}, which is no constexpr parameter",
                help=f"it gets {', '.join(meta) or 'no constants'}",
            ) from None  # fmt: skip
    items = (grid,) if not isinstance(grid, tuple | list) else tuple(grid)
    if not 1 <= len(items) <= 3 or any(isinstance(n, bool) or not hasattr(n, "__index__") for n in items):
        raise TilecTypeError(
            "T365", f"the grid must be 1 to 3 ints, not {grid!r}", help="kernel[(tl.cdiv(n, BLOCK),)](...)"
        )
    found = tuple(n.__index__() for n in items)
    if any(n < 1 for n in found):
        raise TilecValueError(
            "V355", f"the grid {found} is not positive", help="skip the launch of empty work"
        )
    return found


def _check_options(num_threads: Any, options: Any) -> None:
    """Refuse launch options of a wrong type."""
    from tilec.driver import Options

    if num_threads is not None and (not isinstance(num_threads, int) or num_threads < 1):
        raise TilecValueError("V356", f"num_threads is {num_threads!r}", help="pass an int of at least 1")
    if options is not None and not isinstance(options, Options):
        raise TilecTypeError("T367", f"options is {options!r}", help="pass tilec.driver.Options(...)")


def _key(types: Mapping[str, Type], constants: Mapping[str, Any]) -> tuple[Any, ...]:
    return (
        tuple(types.items()),
        tuple((k, type(v), repr(v) if isinstance(v, float) else v) for k, v in constants.items()),
    )


class _hide_frames:
    """Drop the compiler's own frames from the traceback of a TilecError."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if isinstance(error, TilecError):
            error.__traceback__ = None
            error.__suppress_context__ = True
