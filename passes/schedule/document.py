"""Problems, schedules and answers as JSON. docs/schedule-json.md describes the format.

Each kind of object is one table of fields: name, reader, default. Writing is canonical:
sorted keys, every default written out, so that equal problems have equal text and hash.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from tilec.ir.errors import TilecValueError
from tilec.passes.schedule.bounds import NEVER, lower_bound
from tilec.passes.schedule.model import (
    Answer,
    Bound,
    Buffer,
    Edge,
    Hint,
    Limits,
    Op,
    Problem,
    Reader,
    Schedule,
    Segment,
)

PROBLEM, ANSWER = "tilec-problem/1", "tilec-answer/1"
LARGEST = 10**9
REQUIRED = object()
Read = Callable[[Any, str], Any]
Fields = Mapping[str, tuple[Read, Any]]


def wrong(path: str, what: str, help: str = "docs/schedule-json.md has the format") -> TilecValueError:
    """The error of a document, with the path to its place."""
    return TilecValueError("V140", f"{path}: {what}", help=help)


def integer(low: int = 0, high: int = LARGEST) -> Read:
    """A whole number in a range."""

    def read(x: Any, path: str) -> int:
        if type(x) is not int or not low <= x <= high:
            raise wrong(path, f"{_short(x)} is no whole number from {low} to {high}")
        return x

    return read


def number(x: Any, path: str) -> float:
    """A finite number, not negative."""
    if type(x) not in (int, float) or not 0 <= x <= LARGEST:
        raise wrong(path, f"{_short(x)} is no number from 0 to {LARGEST}")
    return float(x)


def text(x: Any, path: str) -> str:
    """A name."""
    if not isinstance(x, str) or not x or len(x) > 1000:
        raise wrong(path, f"{_short(x)} is no name")
    return x


def flag(x: Any, path: str) -> bool:
    """true or false."""
    if not isinstance(x, bool):
        raise wrong(path, f"{_short(x)} is neither true nor false")
    return x


def maybe(read: Read) -> Read:
    """null, or what ``read`` takes."""
    return lambda x, path: None if x is None else read(x, path)


def one_of(*names: str) -> Read:
    """One of some words."""

    def read(x: Any, path: str) -> str:
        if x not in names:
            raise wrong(path, f"{_short(x)} is none of {', '.join(names)}")
        return str(x)

    return read


def items(read: Read) -> Read:
    """A list."""

    def all_of(x: Any, path: str) -> tuple[Any, ...]:
        if not isinstance(x, list):
            raise wrong(path, f"{_short(x)} is no list")
        return tuple(read(y, f"{path}[{i}]") for i, y in enumerate(x))

    return all_of


def row(make: Callable[..., Any], *reads: Read, least: int) -> Read:
    """A list of fixed places; those after ``least`` may be left out."""

    def read(x: Any, path: str) -> Any:
        if not isinstance(x, list) or not least <= len(x) <= len(reads):
            raise wrong(path, f"{_short(x)} is no list of {least} to {len(reads)} items")
        return make(*(r(y, f"{path}[{i}]") for i, (r, y) in enumerate(zip(reads, x, strict=False))))

    return read


def pairs(read: Read) -> Read:
    """An object of one kind of values, as pairs in the object's order."""

    def all_of(x: Any, path: str) -> tuple[tuple[str, Any], ...]:
        if not isinstance(x, dict):
            raise wrong(path, f"{_short(x)} is no object")
        return tuple((text(k, path), read(v, f"{path}.{k}")) for k, v in x.items())

    return all_of


def object_of(make: Callable[..., Any], fields: Fields) -> Read:
    """An object of known fields."""

    def read(x: Any, path: str) -> Any:
        if not isinstance(x, dict):
            raise wrong(path, f"{_short(x)} is no object")
        for name in x:
            if name not in fields:
                raise wrong(f"{path}.{name}", "no such field", f"fields here are {', '.join(fields)}")
        return make(**{name: _field(x, name, *fields[name], path) for name in fields})

    return read


def _field(x: dict[str, Any], name: str, read: Read, default: Any, path: str) -> Any:
    if name in x:
        return read(x[name], f"{path}.{name}")
    if default is REQUIRED:
        raise wrong(path, f"{name} is missing")
    return default


def _short(x: Any) -> str:
    shown = json.dumps(x, default=str)
    return shown if len(shown) <= 60 else shown[:57] + "..."


COUNT, LOC = integer(), (maybe(text), None)
OP: Fields = {
    "id": (text, REQUIRED),
    "reserve": (items(row(Segment, text, COUNT, COUNT, integer(1), least=3)), ()),
    "cyc": (COUNT, 0), "regs": (COUNT, 0), "pinned": (COUNT, 0), "min_warps": (integer(1, 64), 1),
    "stream": (flag, False), "predicate": (maybe(text), None), "loc": LOC,
}  # fmt: skip
EDGE: Fields = {
    "src": (text, REQUIRED), "dst": (text, REQUIRED), "d": (COUNT, REQUIRED), "delta": (COUNT, 0),
    "mem": (one_of("reg", "smem", "tmem", "ord"), "reg"), "blocking": (flag, False), "rd": (COUNT, 0),
    "same": (flag, False), "loc": LOC,
}  # fmt: skip
BUFFER: Fields = {
    "id": (text, REQUIRED), "mem": (one_of("smem", "tmem"), REQUIRED), "size": (integer(1), REQUIRED),
    "writer": (text, REQUIRED), "readers": (items(row(Reader, text, COUNT, least=2)), REQUIRED),
    "max_depth": (integer(1, 1024), 4), "alloc": (flag, False), "align": (integer(1), 32), "loc": LOC,
}  # fmt: skip
LIMITS: Fields = {
    "units": (pairs(integer(1, 1024)), REQUIRED), "smem": (COUNT, 0), "tmem": (COUNT, 0),
    "reg_limit": (COUNT, 240), "reg_fixed": (COUNT, 24), "reg_file": (maybe(COUNT), None),
    "reg_step": (integer(1), 8), "hop": (number, 92.0), "hop_per_reg": (number, 8.05), "sync": (COUNT, 30),
    "name": (lambda x, path: text(x, path) if x else "", ""),
}  # fmt: skip
HINT: Fields = {
    "id": (text, REQUIRED),
    "kind": (one_of("stages", "groups", "registers", "ii", "together", "apart"), REQUIRED),
    "value": (COUNT, 0), "names": (items(text), ()), "loc": LOC,
}  # fmt: skip
FIELDS: Fields = {
    "format": (one_of(PROBLEM), REQUIRED), "name": (text, REQUIRED), "loc": LOC,
    "ops": (items(object_of(Op, OP)), REQUIRED), "edges": (items(object_of(Edge, EDGE)), ()),
    "buffers": (items(object_of(Buffer, BUFFER)), ()), "machine": (object_of(Limits, LIMITS), REQUIRED),
    "hints": (items(object_of(Hint, HINT)), ()), "groups_max": (integer(1, 64), 3),
}  # fmt: skip


def _problem(format: str, machine: Limits, **rest: Any) -> Problem:
    return Problem(limits=machine, **rest)


def parse(source: str, what: str = "$") -> Any:
    """JSON as Python data; no NaN, no key twice."""
    try:
        return json.loads(source, parse_constant=_no_constant, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise wrong(what, f"not JSON: {error}") from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _once(found: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({k for k, _ in found}) != len(found):
        raise ValueError(f"a key twice among {', '.join(k for k, _ in found)}")
    return dict(found)


def problem_of(data: Any) -> Problem:
    """A Problem from the data of its document. TilecValueError V140 with the path of what is wrong."""
    problem: Problem = object_of(_problem, FIELDS)(data, "$")
    _names(problem)
    _meaning(problem)
    return problem


def load_problem(source: str) -> Problem:
    """A Problem from JSON text."""
    return problem_of(parse(source))


def _names(problem: Problem) -> None:
    """Names are used once, and those that are referred to exist."""
    units, ops = dict(problem.limits.units), problem.op
    for path, ids in (("ops", [o.id for o in problem.ops]), ("buffers", [b.id for b in problem.buffers]),
                      ("hints", [h.id for h in problem.hints])):  # fmt: skip
        for i, name in enumerate(ids):
            if name in ids[:i]:
                raise wrong(f"$.{path}[{i}].id", f"{name!r} is used twice")
    uses: list[tuple[str, str, Mapping[str, Any]]] = []
    for i, o in enumerate(problem.ops):
        uses += [(f"$.ops[{i}].reserve", s.unit, units) for s in o.reserve]
    for i, e in enumerate(problem.edges):
        uses += [(f"$.edges[{i}].src", e.src, ops), (f"$.edges[{i}].dst", e.dst, ops)]
    for i, b in enumerate(problem.buffers):
        uses += [(f"$.buffers[{i}].writer", b.writer, ops)]
        uses += [(f"$.buffers[{i}].readers", r.op, ops) for r in b.readers]
    rings = {b.id: b for b in problem.buffers if not b.alloc}
    for i, h in enumerate(problem.hints):
        known: Mapping[str, Any] = rings if h.kind == "stages" else ops
        uses += [(f"$.hints[{i}].names", n, known) for n in h.names]
    for path, name, table in uses:
        if name not in table:
            raise wrong(path, f"{name!r} is not defined", f"known: {', '.join(list(table)[:20])}")


def _meaning(problem: Problem) -> None:
    """A loop has ops, and no op waits for itself within one iteration."""
    if not problem.ops:
        raise wrong("$.ops", "a loop without operations")
    bound = lower_bound(problem)
    if bound.value >= NEVER and bound.kind == "cycle":
        raise wrong("$.edges", f"{' -> '.join(bound.names)} wait for each other in one iteration",
                    "an edge of the cycle needs delta: the value of an earlier iteration")  # fmt: skip


def problem_data(problem: Problem) -> dict[str, Any]:
    """The document of a problem, every default written out."""
    data = asdict(problem)
    machine = data.pop("limits")
    machine["units"] = dict(problem.limits.units)
    machine["hop"], machine["hop_per_reg"] = float(machine["hop"]), float(machine["hop_per_reg"])
    return {**data, "format": PROBLEM, "machine": machine}


def canonical(data: Any) -> str:
    """JSON text: sorted keys, no spaces."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def problem_hash(problem: Problem) -> str:
    """SHA-256 of the canonical text, in hex."""
    return hashlib.sha256(canonical(problem_data(problem)).encode()).hexdigest()


SCHEDULE: Fields = {
    "ii": (integer(1, NEVER), REQUIRED), "times": (pairs(integer(0, NEVER)), REQUIRED),
    "groups": (pairs(COUNT), REQUIRED), "depths": (pairs(COUNT), ()), "offsets": (pairs(COUNT), ()),
    "registers": (pairs(COUNT), ()),
}  # fmt: skip
BOUND: Fields = {
    "value": (integer(0, NEVER), REQUIRED), "kind": (one_of("unit", "cycle", "range", "none"), REQUIRED),
    "names": (items(text), ()), "low": (integer(0, NEVER), 0),
}  # fmt: skip
ANSWER_FIELDS: Fields = {
    "format": (one_of(ANSWER), REQUIRED), "problem": (text, REQUIRED),
    "status": (one_of("optimal", "feasible", "infeasible", "unknown"), REQUIRED),
    "schedule": (maybe(lambda x, path: schedule_of(x, path)), REQUIRED),
    "bound": (object_of(Bound, BOUND), REQUIRED),
    "goals": (items(row(lambda *g: g, text, integer(-LARGEST, NEVER), flag, least=3)), ()),
    "conflicts": (items(text), ()), "work": (integer(0, NEVER), 0),
}  # fmt: skip


def schedule_of(data: Any, path: str = "$") -> Schedule:
    """A Schedule from the data of its document."""
    return object_of(_schedule, SCHEDULE)(data, path)  # type: ignore[no-any-return]


def _schedule(ii: int, registers: Any, **tables: Any) -> Schedule:
    try:
        budgets = {int(g): r for g, r in registers}
    except ValueError:
        raise wrong("$.registers", "groups are whole numbers") from None
    return Schedule(ii, **{name: dict(table) for name, table in tables.items()}, registers=budgets)


def schedule_data(schedule: Schedule) -> dict[str, Any]:
    """The document of a schedule."""
    return {**asdict(schedule), "registers": {str(g): r for g, r in schedule.registers.items()}}


def answer_data(problem: Problem, answer: Answer) -> dict[str, Any]:
    """The document of an answer; ``problem`` is given by its hash."""
    data = asdict(answer)
    data["schedule"] = None if answer.schedule is None else schedule_data(answer.schedule)
    return {**data, "format": ANSWER, "problem": problem_hash(problem)}


def answer_of(data: Any) -> Answer:
    """An Answer from the data of its document."""
    return object_of(_answer, ANSWER_FIELDS)(data, "$")  # type: ignore[no-any-return]


def _answer(format: str, problem: str, **rest: Any) -> Answer:
    return Answer(**rest)
