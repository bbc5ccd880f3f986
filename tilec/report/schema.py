"""The document of a report as JSON Schema (draft 2020-12). A test holds it against real reports."""

from __future__ import annotations

from tilec.passes.schedule.schema import (
    ANSWER_SCHEMA,
    DRAFT,
    FLAG,
    FREE,
    PROBLEM_SCHEMA,
    Schema,
    listed,
    record,
    rows,
    table,
    whole,
    words,
)
from tilec.report.data import FORMAT

TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "number"}
INDEX = whole(-1)


def maybe(schema: Schema) -> Schema:
    """null, or what the schema says."""
    return {"anyOf": [schema, {"type": "null"}]}


def full(**fields: Schema) -> Schema:
    """An object that has all of its fields."""
    return record(tuple(fields), **fields)


def _inner(schema: Schema) -> Schema:
    return {k: v for k, v in schema.items() if k != "$schema"}


TIME = whole(-(10**12), 10**12)
FILE = full(name=TEXT, first=whole(1), lines=listed(TEXT))
FORM = full(name=TEXT, lines=listed(TEXT), places=listed(INDEX), groups=listed(INDEX), ops=table(TEXT))
UNIT = full(unit=TEXT, count=whole(1), cycles=FREE, share=NUMBER)
PROGRAM = full(
    number=whole(), order=listed(TEXT), busy=FREE, share=NUMBER, registers=whole(), budget=whole(),
    peak=TEXT, name=TEXT, limit=whole(),
)  # fmt: skip
RING = full(
    id=TEXT, mem=words("smem", "tmem"), size=FREE, depth=whole(1), offset=maybe(FREE), life=TIME,
    writer=TEXT, readers=listed(TEXT), fill=TIME, there=TIME, read=TIME, end=TIME,
)  # fmt: skip
STEP = full(src=TEXT, dst=TEXT, cycles=FREE, delta=whole())
PROOF = full(
    how=TEXT, problem=TEXT, certificate=TEXT, solver=TEXT, work=FREE, path=listed(STEP), unit=maybe(TEXT)
)
BARS = rows(TEXT, TEXT, TIME, FREE, words("code", "flight", "unit"), least=5)
PLAN = full(
    name=TEXT, kind=words("chosen", "front", "simple", "published"), about=TEXT,
    answer=_inner(ANSWER_SCHEMA), headline=TEXT, why=listed(TEXT), slack=FREE, ii=whole(1, 10**12),
    stages=whole(1), smem=FREE, registers=whole(), groups=whole(), length=FREE, proof=maybe(PROOF),
    units=listed(UNIT), programs=listed(PROGRAM), rings=listed(RING),
    memory=rows(TEXT, FREE, FREE, least=3), lanes=rows(TEXT, TEXT, least=2), bars=BARS,
    held=rows(whole(), FREE, TEXT, whole(), least=4),
)  # fmt: skip
WHAT_IF = full(what=TEXT, value=FREE, before=maybe(FREE), ii=maybe(FREE), bound=FREE, status=TEXT, text=TEXT)
THRESHOLD = full(
    what=TEXT, unit=TEXT, now=FREE, needs=maybe(FREE), more=maybe(FREE), then=maybe(FREE),
    proven=FLAG, text=TEXT,
)  # fmt: skip
MOVED = full(cost=TEXT, factor=NUMBER, fixed=maybe(FREE), solved=maybe(FREE), proven=FLAG)
LAUNCH = full(
    trips=whole(1), programs=whole(1), waves=whole(1), cycles=FREE, bound=NUMBER, low=maybe(NUMBER),
    high=maybe(NUMBER), measured=maybe(NUMBER),
)  # fmt: skip
ROOF = full(
    flops=FREE, bytes=FREE, peak=NUMBER, tma=NUMBER, dram=NUMBER, sms=whole(1), clock=NUMBER,
    fitted=listed(NUMBER), launch=maybe(LAUNCH),
)  # fmt: skip
LOOP = full(
    name=TEXT, loc=maybe(TEXT), problem=_inner(PROBLEM_SCHEMA), hash=TEXT, status=TEXT,
    answer=_inner(ANSWER_SCHEMA), headline=TEXT, why=listed(TEXT), ops=table(listed(whole())),
    plans=listed(PLAN), what_if=listed(WHAT_IF), thresholds=listed(THRESHOLD),
    most_slack=maybe({"type": "array"}), sensitivity=listed(MOVED), roof=maybe(ROOF),
)  # fmt: skip
REPORT_SCHEMA: Schema = {
    "$schema": DRAFT, "title": FORMAT,
    **full(
        format=words(FORMAT), name=TEXT, target=TEXT, machine=TEXT, files=listed(FILE), texts=listed(FORM),
        places=listed(TEXT), loops=listed(LOOP), emitted=rows(TEXT, whole(1), whole(), least=3),
        log=listed(TEXT), notes=listed(TEXT),
    ),
}  # fmt: skip
