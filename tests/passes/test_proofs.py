"""Kept proofs: found under other names, checked when read, and those that ship are true."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from tilec.passes.schedule import proofs
from tilec.passes.schedule.canonical import named, plain
from tilec.passes.schedule.certificate import verify
from tilec.passes.schedule.document import answer_of, problem_hash, problem_of
from tilec.passes.schedule.loops import gallery
from tilec.passes.schedule.model import Answer, Problem
from tilec.passes.schedule.search import solve
from tilec.proof_shelf import ProofShelf
from tilec.runtime.cache import Cache

BUDGET = 40_000_000
SHIPPED = sorted(files("tilec.passes.schedule").joinpath(proofs.SHIPPED).iterdir(), key=lambda f: f.name)


def renamed(problem: Problem) -> Problem:
    """The same loop as another kernel would have it."""
    again, _ = plain(problem)
    ops = tuple(replace(o, id=f"x_{o.id}", loc=f"other.py:{i}") for i, o in enumerate(again.ops))
    edges = tuple(replace(e, src=f"x_{e.src}", dst=f"x_{e.dst}") for e in again.edges)
    buffers = tuple(
        replace(b, writer=f"x_{b.writer}", readers=tuple(r._replace(op=f"x_{r.op}") for r in b.readers))
        for b in again.buffers
    )
    return replace(again, name="other", ops=ops, edges=edges, buffers=buffers)


@pytest.fixture
def solved(monkeypatch: pytest.MonkeyPatch) -> list[Problem]:
    """The problems that were really solved; nothing is remembered, nothing shipped."""
    calls: list[Problem] = []

    def counted(problem: Problem, **how: Any) -> Answer:
        calls.append(problem)
        return solve(problem, **how)

    monkeypatch.setattr(proofs, "solve", counted)
    monkeypatch.setattr(proofs, "SHIPPED", "none")
    monkeypatch.setattr(proofs, "solve_once", proofs.solve_once.__wrapped__)
    return calls


@pytest.mark.parametrize("name", ["gemm", "fa3", "fa3-1tile", "fa3-causal", "toy"])
def test_names_make_no_difference(name: str) -> None:
    problem = gallery[name]()
    loop, names = plain(problem)
    assert named(solve(loop), names) == solve(problem)
    assert plain(renamed(problem))[0] == loop


@pytest.mark.parametrize("name", ["fa3", "fa3-1tile", "gemm"])
def test_a_loop_under_other_names_is_not_solved_again(
    name: str, solved: list[Problem], tmp_path: Path
) -> None:
    problem, shelf = gallery[name](), ProofShelf(Cache(tmp_path), {"tilec": "1"})
    with proofs.kept_on(shelf):
        first = proofs.solve_once(problem, BUDGET)
        second = proofs.solve_once(renamed(problem), BUDGET)
    assert len(solved) == 1
    assert first == solve(problem, rlimit=BUDGET) and second.schedule and first.schedule
    assert list(second.schedule.times) == [o.id for o in renamed(problem).ops]
    assert list(second.schedule.times.values()) == list(first.schedule.times.values())
    for other in (ProofShelf(Cache(tmp_path), {"tilec": "2"}), None):
        with proofs.kept_on(other):
            proofs.solve_once(problem, BUDGET)
    assert len(solved) == 3


def test_a_wrong_certificate_is_not_believed(solved: list[Problem]) -> None:
    class Liar:
        def __init__(self) -> None:
            self.data = b""

        def get(self, key: str) -> bytes | None:
            return self.data

        def put(self, key: str, data: bytes) -> None:
            self.data = data.replace(b'"ii":2048', b'"ii":2047').replace(b'"value":2048', b'"value":2047')

    problem = gallery["fa3"]()
    with proofs.kept_on(Liar()):
        for _ in range(2):
            assert proofs.solve_once(problem, BUDGET).bound.value == 2048
    assert len(solved) == 2


def test_of_another_problem_is_not_believed(solved: list[Problem]) -> None:
    class Mixed(dict[str, bytes]):
        def get(self, key: str) -> bytes | None:  # type: ignore[override]
            return next(iter(self.values()), None)

        def put(self, key: str, data: bytes) -> None:
            self[key] = data

    with proofs.kept_on(Mixed()):
        proofs.solve_once(gallery["fa3"](), BUDGET)
        assert proofs.solve_once(gallery["fa3-d64"](), BUDGET).bound.value == 1040
    assert len(solved) == 2


@pytest.mark.parametrize("file", SHIPPED, ids=lambda f: f.name[:8])
def test_what_ships_is_a_certificate(file: Any) -> None:
    data = json.loads(file.read_bytes())
    problem = problem_of(data["problem"])
    assert verify(data) == ()
    assert file.name == f"{problem_hash(problem)}.json" and plain(problem)[0] == problem
    assert proofs.complete(file.read_bytes())


def test_something_ships() -> None:
    assert len(SHIPPED) > 4


@pytest.mark.slow
@pytest.mark.parametrize("file", SHIPPED, ids=lambda f: f.name[:8])
def test_what_ships_is_what_is_found_today(file: Any) -> None:
    """Otherwise run .ci/proofs.py."""
    data = json.loads(file.read_bytes())
    assert verify(data, solver=True) == ()
    assert solve(problem_of(data["problem"]), rlimit=BUDGET) == answer_of(data["answer"])
