"""Proofs are kept: a loop that differs from a solved one in names and lines only is not solved again.

What is kept is a short certificate under the hash of the problem in plain names. The package has
those of the examples; a `Shelf` may have more. Each is checked again when it is read: its hash, the
plan, and the bound where it is a closed form. What z3 refuted is believed: the tests of the package
ask again for what it ships, and a shelf must not mix what different versions wrote.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from importlib.resources import files
from typing import Any, Protocol

from tilec.ir.errors import TilecError
from tilec.passes.schedule.canonical import named, plain
from tilec.passes.schedule.certificate import certificate, verify
from tilec.passes.schedule.document import answer_of, canonical, problem_hash
from tilec.passes.schedule.model import Answer, Problem
from tilec.passes.schedule.search import solve

SHIPPED = "proofs"  # the folder of this package with certificates named by their keys


class Shelf(Protocol):
    """Where certificates are kept, by key."""

    def get(self, key: str) -> bytes | None: ...

    def put(self, key: str, data: bytes) -> None: ...


_shelf: ContextVar[Shelf | None] = ContextVar("shelf", default=None)


@contextmanager
def kept_on(shelf: Shelf | None) -> Iterator[None]:
    """Loops that are solved inside are looked up on a shelf, and kept there."""
    token = _shelf.set(shelf)
    try:
        yield
    finally:
        _shelf.reset(token)


@lru_cache(maxsize=256)
def solve_once(problem: Problem, rlimit: int) -> Answer:
    """`solve`, unless the answer is known."""
    loop, names = plain(problem)
    key, shelf = problem_hash(loop), _shelf.get()
    answer = _read(key, _shipped(key))
    if answer is None and shelf is not None:
        answer = _read(key, shelf.get(_place(key, rlimit)))
    if answer is None:
        answer = solve(loop, rlimit=rlimit)
        if shelf is not None and answer.schedule is not None:
            shelf.put(_place(key, rlimit), encoded(loop, answer))
    return named(answer, names)


def encoded(problem: Problem, answer: Answer) -> bytes:
    """The short certificate as canonical JSON."""
    return (canonical(certificate(problem, answer, short=True)) + "\n").encode()


def complete(data: bytes) -> bool:
    """Whether a certificate says the same under any budget: the interval and all goals are proven."""
    answer = answer_of(json.loads(data)["answer"])
    return answer.status == "optimal" and all(proven for _, _, proven in answer.goals)


def _place(key: str, rlimit: int) -> str:
    return f"{key}-{rlimit}"


def _shipped(key: str) -> bytes | None:
    file = files("tilec.passes.schedule").joinpath(SHIPPED, f"{key}.json")
    return file.read_bytes() if file.is_file() else None


def _read(key: str, data: bytes | None) -> Answer | None:
    """The answer of a certificate, or None if it is not what it must be."""
    if data is None:
        return None
    try:
        found: Any = json.loads(data)
        if verify(found) or found["answer"]["problem"] != key:
            return None
        return answer_of(found["answer"])
    except (ValueError, TilecError):
        return None
