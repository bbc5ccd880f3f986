"""From a Python function to its captured copy, and the calls between user functions."""

from __future__ import annotations
import __future__

import ast
import builtins
import functools
import inspect
import linecache
import threading
from collections.abc import Callable
from types import CellType, CodeType, FunctionType, MethodType, SimpleNamespace
from typing import Any

from tilec import branches, logic, loops
from tilec.capture import RUNTIME, refused, rewrite, syntax_error
from tilec.ir.errors import TilecSyntaxError, TilecTypeError, TilecValueError
from tilec.ir.loc import Loc
from tilec.source import is_library, is_ours
from tilec.tile import TensorArg, Tile
from tilec.trace import active
from tilec.values import UNBOUND

_FUTURE = functools.reduce(
    lambda flags, name: flags | getattr(__future__, name).compiler_flag, __future__.all_feature_names, 0
)
_lock = threading.RLock()
_codes: dict[CodeType, CodeType | None] = {}


def location(fn: Callable[..., Any]) -> Loc:
    """Where a function is defined."""
    code = inspect.unwrap(fn).__code__
    line = first = code.co_firstlineno
    lines = linecache.getlines(code.co_filename)
    while line < len(lines) and not lines[line - 1].lstrip().startswith("def "):
        line += 1
    line = line if line <= len(lines) else first
    text = linecache.getline(code.co_filename, line).rstrip()
    return Loc(code.co_filename, line, len(text) - len(text.lstrip()), len(text), fn.__name__)


def parse(fn: FunctionType) -> ast.FunctionDef:
    """The function's definition, with the line and column numbers of its file."""
    try:
        lines, first = inspect.getsourcelines(fn)
    except (OSError, TypeError):
        raise TilecSyntaxError(
            "S302", f"the source of {fn.__name__} is not available", loc=location(fn),
            help="kernels must be defined in a file, not in exec or a plain interactive session",
        ) from None  # fmt: skip
    text = "".join(lines)
    indented = text[:1].isspace()
    tree = ast.parse("if 1:\n" + text if indented else text, fn.__code__.co_filename)
    ast.increment_lineno(tree, first - (2 if indented else 1))
    body = tree.body[0].body if indented else tree.body  # type: ignore[attr-defined]
    if (
        not body
        or not isinstance(body[0], ast.FunctionDef | ast.AsyncFunctionDef)
        or body[0].name != fn.__name__
    ):
        raise TilecSyntaxError(
            "S302",
            f"the source of {fn.__name__} is not a plain def",
            loc=location(fn),
            help="write it with def",
        )
    node = body[0]
    if isinstance(node, ast.AsyncFunctionDef):
        raise syntax_error(
            "S308",
            "a kernel cannot be async",
            "write it with def",
            node,
            fn.__code__.co_filename,
            fn.__name__,
        )
    return node


def capture_kernel(fn: FunctionType) -> FunctionType:
    """The captured copy of a kernel; anything that cannot be captured is an error."""
    node = parse(fn)
    bad = refused(node)
    if bad is not None:
        part, word, mend = bad
        raise syntax_error("S305", f"{word} in a kernel", mend, part, fn.__code__.co_filename, fn.__name__)
    with _lock:
        if fn.__code__ not in _codes:
            _codes[fn.__code__] = _compile(fn, node)
        return _instance(fn, _codes[fn.__code__])


def capture_helper(fn: FunctionType) -> FunctionType:
    """The captured copy of a helper function, or the function itself where that cannot be."""
    with _lock:
        if fn.__code__ not in _codes:
            _codes[fn.__code__] = _compile_helper(fn)
        return _instance(fn, _codes[fn.__code__])


def _compile_helper(fn: FunctionType) -> CodeType | None:
    if fn.__name__ == "<lambda>" or fn.__code__.co_flags & (inspect.CO_GENERATOR | inspect.CO_COROUTINE):
        return None
    try:
        node = parse(fn)
    except (TilecSyntaxError, SyntaxError):
        return None
    bad = refused(node)
    if bad is None:
        return _compile(fn, node)
    if isinstance(bad[0], ast.Global | ast.Nonlocal):
        part, word, mend = bad
        raise syntax_error(
            "S305",
            f"{word} in a function that a kernel calls",
            mend,
            part,
            fn.__code__.co_filename,
            fn.__name__,
        )
    return None


def _compile(fn: FunctionType, node: ast.FunctionDef) -> CodeType:
    """Compile the rewritten function inside of a factory that provides its free names."""
    code = fn.__code__
    inner = rewrite(node, code.co_filename)
    free = [RUNTIME, *(n for n in code.co_freevars if n != RUNTIME)]
    arguments = ast.arguments([], [ast.arg(n) for n in free], None, [], [], None, [])
    factory = ast.FunctionDef("_tilec_factory", arguments, [inner], [])
    factory.type_params = []  # type: ignore[attr-defined,unused-ignore]  # required from Python 3.12 on
    ast.copy_location(factory, node)
    module = ast.fix_missing_locations(ast.Module([factory], []))
    flags = code.co_flags & _FUTURE
    compiled = compile(module, code.co_filename, "exec", flags=flags, dont_inherit=True)
    outer = next(c for c in compiled.co_consts if isinstance(c, CodeType))
    return next(c for c in outer.co_consts if isinstance(c, CodeType) and c.co_name == fn.__name__)


def _instance(fn: FunctionType, code: CodeType | None) -> FunctionType:
    if code is None:
        return fn
    cells = dict(zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True))
    cells[RUNTIME] = CellType(_RUNTIME)
    closure = tuple(cells[n] for n in code.co_freevars)
    copy = FunctionType(code, fn.__globals__, fn.__name__, fn.__defaults__, closure)
    copy.__kwdefaults__ = fn.__kwdefaults__
    return captured(copy)


def captured(fn: FunctionType) -> FunctionType:
    """Mark a function whose code has been rewritten."""
    fn.__tilec_captured__ = True  # type: ignore[attr-defined]
    return fn


def call(fn: Any) -> Any:
    """What to call for ``fn(...)`` in captured code."""
    if isinstance(fn, FunctionType):
        return _user_function(fn)
    if isinstance(fn, MethodType) and isinstance(fn.__func__, FunctionType):
        return MethodType(_user_function(fn.__func__), fn.__self__)
    if isinstance(fn, functools.partial):
        return functools.partial(call(fn.func), *fn.args, **fn.keywords)
    from tilec.kernel import KernelFunction, Launcher

    if isinstance(fn, KernelFunction):
        return _inlined(fn)
    if isinstance(fn, Launcher):
        raise TilecSyntaxError(
            "S309", f"kernel {fn.kernel.name} is launched inside of a kernel",
            help="launch it from the host, or call it without [grid] to inline it",
        )  # fmt: skip
    return _GUARDED.get(fn, fn) if isinstance(fn, type | type(print)) else fn


def _user_function(fn: FunctionType) -> FunctionType:
    """The captured copy of a user's function; others as they are."""
    file = fn.__code__.co_filename
    if getattr(fn, "__tilec_captured__", False) or is_ours(file):
        return fn
    tracer = active()
    if is_library(file) and not (
        tracer and is_library(tracer.file) and _package(file) == _package(tracer.file)
    ):
        return fn
    _took_part(fn)
    return capture_helper(fn)


def _took_part(fn: FunctionType) -> None:
    tracer = active()
    if tracer is not None:
        tracer.functions.append(fn)


def _package(file: str) -> str:
    return file.replace("\\", "/").rsplit("site-packages/", 1)[-1].split("/", 1)[0]


def _inlined(kernel: Any) -> Callable[..., Any]:
    """Another kernel called like a function: its constexpr parameters must be constants."""

    def inline(*args: Any, **kwargs: Any) -> Any:
        bound = inspect.signature(kernel.fn).bind(*args, **kwargs)
        for name in kernel.constexprs:
            value = bound.arguments.get(name)
            if isinstance(value, Tile | TensorArg):
                raise TilecTypeError(
                    "T343", f"constexpr parameter {name!r} of {kernel.__name__} is given a run-time value",
                    help="pass a Python value or a constexpr",
                )  # fmt: skip
        _took_part(kernel.fn)
        return capture_kernel(kernel.fn)(*args, **kwargs)

    return inline


def _print(*args: Any, **kwargs: Any) -> None:
    if any(isinstance(a, Tile | TensorArg) for a in args):
        raise TilecTypeError(
            "T344", "print of a run-time value",
            help="tl.static_print shows shape and dtype; to see values store them into a tensor",
        )  # fmt: skip
    print(*args, **kwargs)


def _reduction(name: str, pairwise: str = "") -> Callable[..., Any]:
    """Python's reduction, which works on lists of tiles, but neither within a tile nor on pairs.

    ``pairwise`` is advice for those that also take single values.
    """
    original = getattr(builtins, name)

    def guarded(*args: Any, **kwargs: Any) -> Any:
        if any(isinstance(a, Tile) for a in (args if pairwise else args[:1])):
            raise TilecTypeError(
                "T345",
                f"Python's {name} is called on a tile",
                help=f"write tl.{name} to reduce a tile{pairwise}",
            )
        return original(*args, **kwargs)

    return guarded


def _no_state(*args: Any) -> Any:
    raise TilecValueError("V341", "eval, exec, globals and locals cannot be used in a kernel")


_GUARDED: dict[Any, Any] = {
    print: _print,
    builtins.max: _reduction("max", " or tl.maximum for two values"),
    builtins.min: _reduction("min", " or tl.minimum for two values"),
    builtins.sum: _reduction("sum"),
    builtins.any: _reduction("any"),
    builtins.all: _reduction("all"),
    **dict.fromkeys(
        (builtins.eval, builtins.exec, builtins.locals, builtins.globals, builtins.vars), _no_state
    ),
}


def depth() -> int:
    """How many regions are open."""
    tracer = active()
    return len(tracer.stack) if tracer else 0


_RUNTIME = SimpleNamespace(
    If=branches.If, For=loops.For, While=loops.While, call=call, captured=captured, depth=depth,
    returning=logic.returning, choose=logic.choose, both=logic.both, either=logic.either,
    negate=logic.negate, chain=logic.chain, locals=builtins.locals, UNBOUND=UNBOUND,
)  # fmt: skip
