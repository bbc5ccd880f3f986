"""What differs between two reports, row by row: of the loops, their plans, and the code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import zip_longest
from typing import Any

Row = tuple[str, str, str]
NONE = "-"


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Row]:
    """(what, in the first, in the second); only what differs."""
    rows = [*_kernel(a, b)]
    for x, y in zip_longest(a["loops"], b["loops"]):
        rows += _loop(x, y)
    return [r for r in rows if r[1] != r[2]]


def grown(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """The loops whose interval is larger in the second, or that have a plan in the first only."""
    pairs = zip(a["loops"], b["loops"], strict=False)
    return [x["name"] for x, y in pairs if _ii(x) is not None and (_ii(y) is None or _ii(y) > _ii(x))]


def _ii(loop: Mapping[str, Any]) -> Any:
    return loop["plans"][0]["ii"] if loop["plans"] else None


def _kernel(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[Row]:
    for what in ("name", "target", "machine"):
        yield what, str(a[what]), str(b[what])
    forms = dict.fromkeys(t["name"] for d in (a, b) for t in d["texts"])
    for form in forms:
        yield f"lines of {form}", _lines(a, form), _lines(b, form)


def _lines(doc: Mapping[str, Any], form: str) -> str:
    found = [t for t in doc["texts"] if t["name"] == form]
    return str(len(found[0]["lines"])) if found else NONE


def _loop(x: Mapping[str, Any] | None, y: Mapping[str, Any] | None) -> Iterator[Row]:
    name = (x or y or {})["name"]
    facts = [_facts(loop) if loop else {} for loop in (x, y)]
    for what in dict.fromkeys([*facts[0], *facts[1]]):
        yield f"{name}: {what}", facts[0].get(what, NONE), facts[1].get(what, NONE)


def _facts(loop: Mapping[str, Any]) -> dict[str, str]:
    """What is compared of a loop: its chosen plan, as text."""
    if not loop["plans"]:
        return {"status": loop["status"]}
    plan = loop["plans"][0]
    found = {
        "interval": str(plan["ii"]), "status": loop["status"],
        "bound": f"{plan['answer']['bound']['value']} ({plan['answer']['bound']['kind']})",
        "stages": str(plan["stages"]), "groups": str(plan["groups"]), "registers": str(plan["registers"]),
        "bytes of rings": str(plan["smem"]), "slack": str(plan["slack"]),
    }  # fmt: skip
    if loop["roof"]:
        found["operations per cycle"] = f"{loop['roof']['flops'] / plan['ii']:.0f}"
    found |= {f"{u['unit']} full": f"{u['share']:.0%}" for u in plan["units"]}
    found |= {f"slots of {r['id']}": str(r["depth"]) for r in plan["rings"]}
    found |= {f"order of {p['name']}": " ".join(p["order"]) for p in plan["programs"]}
    return found
