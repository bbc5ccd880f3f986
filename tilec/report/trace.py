"""A plan as a trace for ui.perfetto.dev, beside an emulator run where there is one.

The format is that of `tilec emulate --trace` (Trace Event Format, JSON). The plan is a process
of its own with a track for each group, named after its warps, and for each unit. A cycle
stands as a microsecond; the steps of an emulator run are instructions, not cycles, so only
the order of the two can be compared.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tilec.ir.errors import TilecValueError

PLAN = 1_000_000  # a process number that no CTA of an emulator run has


def trace(plan: Mapping[str, Any], iterations: int, warps: Sequence[int] = (), run: str = "") -> str:
    """The trace of some iterations of a plan.

    ``warps``: how many each group has. ``run``: the text of a trace to lie beside the plan.
    """
    events = [*_events_of(run), *_names(plan, warps), *_slices(plan, iterations)]
    return json.dumps({"traceEvents": events, "displayTimeUnit": "ms"}, separators=(",", ":"))


def _events_of(run: str) -> list[dict[str, Any]]:
    if not run:
        return []
    try:
        events = json.loads(run)["traceEvents"]
    except (ValueError, KeyError, TypeError):
        raise TilecValueError(
            "V520", "this is no trace of an emulator run", help="write one with tilec emulate --trace FILE"
        ) from None
    return list(events)


def _names(plan: Mapping[str, Any], warps: Sequence[int]) -> Iterator[dict[str, Any]]:
    yield _meta("process_name", 0, f"plan, an iteration every {plan['ii']} cycles")
    first = 0
    for track, (_, label) in enumerate(plan["lanes"]):
        count = warps[track] if track < len(warps) else 0
        which = f" (warps {first} to {first + count - 1})" if count else ""
        first += count
        yield _meta("thread_name", track, label + which)


def _meta(what: str, track: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "pid": PLAN, "tid": track, "name": what, "args": {"name": name}}


def _slices(plan: Mapping[str, Any], iterations: int) -> Iterator[dict[str, Any]]:
    tracks = {lane: n for n, (lane, _) in enumerate(plan["lanes"])}
    number = 0
    for i in range(iterations):
        for lane, op, start, length, kind in plan["bars"]:
            at = {"pid": PLAN, "tid": tracks[lane], "ts": start + i * plan["ii"], "name": op}
            if kind == "flight":
                number += 1
                yield {**at, "ph": "b", "cat": "async", "id": number, "args": {"iteration": i}}
                yield {**at, "ph": "e", "cat": "async", "id": number, "ts": at["ts"] + length}
            else:
                yield {**at, "ph": "X", "dur": length, "args": {"iteration": i}}
