"""The documents of the scheduler as JSON Schema (draft 2020-12), for tools that make or read them.

The fields are those of `document.py`; a test compares the two. What a schema cannot say,
that names exist and no op waits for itself, only `document.py` checks.
"""

from __future__ import annotations

from typing import Any

from tilec.passes.schedule.document import ANSWER, LARGEST, PROBLEM

Schema = dict[str, Any]
DRAFT = "https://json-schema.org/draft/2020-12/schema"


def whole(least: int = 0, most: int = LARGEST) -> Schema:
    """A whole number in a range."""
    return {"type": "integer", "minimum": least, "maximum": most}


def words(*names: str) -> Schema:
    """One of some words."""
    return {"enum": list(names)}


def rows(*items: Schema, least: int) -> Schema:
    """A list of lists of fixed places."""
    row = {"type": "array", "prefixItems": list(items), "minItems": least, "maxItems": len(items)}
    return {"type": "array", "items": row}


def record(required: tuple[str, ...], **fields: Schema) -> Schema:
    """An object of known fields."""
    return {"type": "object", "properties": fields, "required": list(required), "additionalProperties": False}


def table(values: Schema) -> Schema:
    """An object whose keys are names."""
    return {"type": "object", "additionalProperties": values}


def listed(item: Schema) -> Schema:
    """A list."""
    return {"type": "array", "items": item}


NAME: Schema = {"type": "string", "minLength": 1, "maxLength": 1000}
MAYBE: Schema = {"anyOf": [NAME, {"type": "null"}]}
FLAG: Schema = {"type": "boolean"}
SIZE: Schema = {"type": "number", "minimum": 0, "maximum": LARGEST}
FREE = whole(0, 2**62)

OP = record(
    ("id",), id=NAME, reserve=rows(NAME, whole(), whole(), whole(1), least=3), cyc=whole(), regs=whole(),
    pinned=whole(), min_warps=whole(1, 64), stream=FLAG, predicate=MAYBE, loc=MAYBE,
)  # fmt: skip
EDGE = record(
    ("src", "dst", "d"), src=NAME, dst=NAME, d=whole(), delta=whole(),
    mem=words("reg", "smem", "tmem", "ord"), blocking=FLAG, rd=whole(), same=FLAG, loc=MAYBE,
)  # fmt: skip
BUFFER = record(
    ("id", "mem", "size", "writer", "readers"), id=NAME, mem=words("smem", "tmem"), size=whole(1),
    writer=NAME, readers=rows(NAME, whole(), least=2), max_depth=whole(1, 1024),
    alloc=FLAG, align=whole(1), loc=MAYBE,
)  # fmt: skip
MACHINE = record(
    ("units",), units=table(whole(1, 1024)), smem=whole(), tmem=whole(), reg_limit=whole(), reg_fixed=whole(),
    reg_file={"anyOf": [whole(), {"type": "null"}]}, reg_step=whole(1), hop=SIZE, hop_per_reg=SIZE,
    sync=whole(), name={"type": "string"},
)  # fmt: skip
HINT = record(
    ("id", "kind"), id=NAME, kind=words("stages", "groups", "registers", "ii", "together", "apart"),
    value=whole(), names=listed(NAME), loc=MAYBE,
)  # fmt: skip
SCHEDULE = record(
    ("ii", "times", "groups"), ii=whole(1, 2**62), times=table(FREE), groups=table(whole()),
    depths=table(whole()), offsets=table(whole()), registers=table(whole()),
)  # fmt: skip
BOUND = record(
    ("value", "kind"), value=FREE, kind=words("unit", "cycle", "range", "none"), names=listed(NAME), low=FREE
)
GOALS = rows(NAME, whole(-LARGEST, 2**62), FLAG, least=3)

PROBLEM_SCHEMA: Schema = {
    "$schema": DRAFT, "title": PROBLEM,
    **record(
        ("format", "name", "ops", "machine"), format=words(PROBLEM), name=NAME, loc=MAYBE, ops=listed(OP),
        edges=listed(EDGE), buffers=listed(BUFFER), machine=MACHINE, hints=listed(HINT),
        groups_max=whole(1, 64),
    ),
}  # fmt: skip
ANSWER_SCHEMA: Schema = {
    "$schema": DRAFT, "title": ANSWER,
    **record(
        ("format", "problem", "status", "schedule", "bound"), format=words(ANSWER), problem=NAME,
        status=words("optimal", "feasible", "infeasible", "unknown"),
        schedule={"anyOf": [SCHEDULE, {"type": "null"}]}, bound=BOUND, goals=GOALS,
        conflicts=listed(NAME), work=FREE,
    ),
}  # fmt: skip
