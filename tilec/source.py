"""Where in the user's source something happens, read from Python's frames."""

from __future__ import annotations

import functools
import linecache
import os
import sys
import sysconfig
from collections.abc import Iterator
from types import CodeType, FrameType, TracebackType

import tilec.ir
from tilec.ir.loc import Loc

_OURS = tuple(
    os.path.join(os.path.dirname(os.path.abspath(f)), "") for f in (__file__, tilec.ir.__file__ or __file__)
)
_STDLIB = os.path.join(sysconfig.get_path("stdlib"), "")
_MAX_CHAIN = 16
_SITE = tuple({os.path.join(sysconfig.get_path(k), "") for k in ("purelib", "platlib")})


def is_ours(file: str) -> bool:
    """Is this a file of the compiler itself?"""
    return file.startswith(_OURS)


def is_library(file: str) -> bool:
    """Is this the standard library, an installed package or generated code?"""
    return file.startswith(("<frozen", "<string>")) or file.startswith((_STDLIB, *_SITE))


@functools.lru_cache(maxsize=4096)
def _positions(code: CodeType) -> tuple[tuple[int | None, int | None, int | None, int | None], ...]:
    return tuple(code.co_positions())


def at(code: CodeType, lasti: int, line: int, caller: Loc | None) -> Loc:
    """The Loc of one bytecode instruction."""
    start, end, col, end_col = _positions(code)[lasti // 2]
    if start is None or col is None or end_col is None:
        return Loc(code.co_filename, line, 0, 0, code.co_name, caller)
    if end != start:
        end_col = len(linecache.getline(code.co_filename, start).rstrip("\n"))
    return Loc(code.co_filename, start, col, end_col, code.co_name, caller)


def here(stop: CodeType, kernel_file: str) -> Loc | None:
    """The innermost user line of the running stack, with its chain of calls.

    Frames outside of ``stop``'s frame belong to whoever launched the trace.
    """
    frames: list[tuple[CodeType, int, int]] = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code is not stop:
        frames.append((frame.f_code, frame.f_lasti, frame.f_lineno))
        frame = frame.f_back
    return _chain(reversed(frames), kernel_file)


def of_traceback(trace: TracebackType | None, kernel_file: str) -> Loc | None:
    """The innermost user line of a traceback that starts inside the tracer."""
    frames: list[tuple[CodeType, int, int]] = []
    while trace is not None:
        frames.append((trace.tb_frame.f_code, trace.tb_lasti, trace.tb_lineno))
        trace = trace.tb_next
    return _chain(iter(frames), kernel_file)


def raised_by_us(trace: TracebackType | None) -> bool:
    """Did the exception come out of the compiler's own code?"""
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and is_ours(trace.tb_frame.f_code.co_filename)


def _chain(frames: Iterator[tuple[CodeType, int, int]], kernel_file: str) -> Loc | None:
    users = [f for f in frames if _is_user(f[0].co_filename, kernel_file)]
    if len(users) > _MAX_CHAIN:  # a deep recursion: both ends tell enough
        users = users[: _MAX_CHAIN // 2] + users[-_MAX_CHAIN // 2 :]
    loc: Loc | None = None
    for code, lasti, line in users:
        loc = at(code, lasti, line, loc)
    return loc


def _is_user(file: str, kernel_file: str) -> bool:
    return not is_ours(file) and (file == kernel_file or not is_library(file))
