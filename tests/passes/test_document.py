"""Problems, answers and certificates as JSON: what is read, what is refused, what a flipped digit does."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tilec.ir.errors import TilecValueError
from tilec.passes.schedule import document, loops, schema
from tilec.passes.schedule.certificate import certificate, verify
from tilec.passes.schedule.document import (
    answer_data,
    answer_of,
    canonical,
    load_problem,
    problem_data,
    problem_hash,
)
from tilec.passes.schedule.model import Problem
from tilec.passes.schedule.search import solve

ROOT = Path(__file__).parents[2]
GALLERY = {
    "gemm": loops.gemm, "fa3": loops.fa3_forward, "fa4": loops.fa4_forward, "backward": loops.fa3_backward,
}  # fmt: skip


def toy() -> str:
    """The problem of the page, as it stands there."""
    page = (ROOT / "docs" / "schedule-json.md").read_text(encoding="utf-8")
    [text] = re.findall(r"```json\n(.*?)```", page, flags=re.S)
    return str(text)


def test_the_problem_of_the_page_is_solved() -> None:
    problem = load_problem(toy())
    answer = solve(problem)
    assert answer.status == "optimal" and answer.schedule is not None
    assert verify(json.loads(canonical(certificate(problem, answer))), solver=True) == ()


@pytest.mark.parametrize("name", GALLERY)
def test_problems_come_back_as_they_were(name: str) -> None:
    problem = GALLERY[name]()
    text = canonical(problem_data(problem))
    again = load_problem(text)
    assert again == problem and canonical(problem_data(again)) == text
    assert problem_hash(again) == problem_hash(problem)


def test_answers_come_back_as_they_were() -> None:
    for make in (loops.gemm, loops.fa4_forward):
        answer = solve(make())
        assert answer_of(json.loads(canonical(answer_data(make(), answer)))) == answer


def test_the_schemas_have_the_fields_that_are_read() -> None:
    tables = {
        "OP": schema.OP, "EDGE": schema.EDGE, "BUFFER": schema.BUFFER, "LIMITS": schema.MACHINE,
        "HINT": schema.HINT,
        "FIELDS": schema.PROBLEM_SCHEMA, "SCHEDULE": schema.SCHEDULE, "BOUND": schema.BOUND,
        "ANSWER_FIELDS": schema.ANSWER_SCHEMA,
    }  # fmt: skip
    for name, found in tables.items():
        fields = getattr(document, name)
        assert set(found["properties"]) == set(fields), name
        assert set(found["required"]) == {
            n for n, (_, default) in fields.items() if default is document.REQUIRED
        }, name


def test_documents_fit_their_schemas() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    for make in GALLERY.values():
        jsonschema.validate(json.loads(canonical(problem_data(make()))), schema.PROBLEM_SCHEMA)
    jsonschema.validate(json.loads(toy()), schema.PROBLEM_SCHEMA)
    answer = json.loads(canonical(answer_data(loops.gemm(), solve(loops.gemm()))))
    jsonschema.validate(answer, schema.ANSWER_SCHEMA)


WRONG: dict[str, tuple[Any, str]] = {
    "no such field": (lambda d: d["ops"][0].update(latency=3), "$.ops[0].latency"),
    "missing": (lambda d: d["edges"][0].pop("d"), "$.edges[0]"),
    "negative": (lambda d: d["edges"][0].update(d=-1), "$.edges[0].d"),
    "a fraction": (lambda d: d["ops"][1].update(cyc=1.5), "$.ops[1].cyc"),
    "true is no number": (lambda d: d["ops"][1].update(cyc=True), "$.ops[1].cyc"),
    "huge": (lambda d: d["ops"][1].update(regs=10**30), "$.ops[1].regs"),
    "twice": (lambda d: d["ops"][1].update(id="load"), "$.ops[1].id"),
    "unknown op": (lambda d: d["edges"][0].update(dst="T"), "$.edges[0].dst"),
    "unknown unit": (lambda d: d["ops"][1].update(reserve=[["SFU", 0, 1]]), "$.ops[1].reserve"),
    "unknown reader": (lambda d: d["buffers"][0].update(readers=[["T", 1]]), "$.buffers[0].readers"),
    "short row": (lambda d: d["ops"][1].update(reserve=[["TC", 0]]), "$.ops[1].reserve[0]"),
    "no list": (lambda d: d.update(ops={}), "$.ops"),
    "no ops": (lambda d: d.update(ops=[], edges=[], buffers=[]), "$.ops"),
    "other format": (lambda d: d.update(format="tilec-problem/9"), "$.format"),
    "waits for itself": (lambda d: d["edges"].append({"src": "O", "dst": "S", "d": 1}), "$.edges"),
    "unknown hint": (lambda d: d.update(hints=[{"id": "h", "kind": "speed"}]), "$.hints[0].kind"),
    "unknown ring": (
        lambda d: d.update(hints=[{"id": "h", "kind": "stages", "names": ["V"]}]),
        "$.hints[0].names",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named_with_its_path(name: str) -> None:
    change, path = WRONG[name]
    data = json.loads(toy())
    change(data)
    with pytest.raises(TilecValueError) as caught:
        load_problem(json.dumps(data))
    assert caught.value.code == "V140" and caught.value.message.startswith(f"{path}: "), caught.value.message
    assert caught.value.help


@pytest.mark.parametrize(
    "text", ["", "[", "{} {}", '{"a": NaN}', '{"a": 1, "a": 2}', "[" * 100_000, "3", "null"]
)
def test_what_is_no_document_is_refused(text: str) -> None:
    with pytest.raises(TilecValueError, match="V140"):
        load_problem(text)


@pytest.mark.parametrize("change", [{"ii": -1}, {"depths": {"K": 9}}, {"registers": {"0": 24, "1": 120}}])
def test_a_wrong_plan_is_refused_even_with_its_hash(change: dict[str, Any]) -> None:
    good = certificate(small(), solve(small()))
    body = json.loads(canonical({k: v for k, v in good.items() if k != "sha256"}))
    plan = body["answer"]["schedule"]
    plan |= {k: plan[k] + v if k == "ii" else v for k, v in change.items()}
    faults = verify({**body, "sha256": hashlib.sha256(canonical(body).encode()).hexdigest()})
    assert faults and not any("[hash]" in fault for fault in faults)


def small() -> Problem:
    return load_problem(toy())


def flips(text: str) -> list[str]:
    """The text with one digit changed, for every digit."""
    places = [i for i, c in enumerate(text) if c.isdigit()]
    return [text[:i] + str((int(text[i]) + 1) % 10) + text[i + 1 :] for i in places]


@pytest.mark.parametrize("make", [small, lambda: loops.fa3_forward(1)], ids=["toy", "range"])
def test_no_digit_of_a_certificate_can_be_changed(make: Any) -> None:
    problem = make()
    text = canonical(certificate(problem, solve(problem)))
    assert verify(json.loads(text)) == ()
    changed = flips(text)
    for other in changed[:: 1 + len(changed) // 600]:
        assert refused(parsed(other)), other


def parsed(text: str) -> dict[str, Any]:
    """The data, or what no document is where a flipped digit left no JSON."""
    try:
        return dict(json.loads(text))
    except ValueError:
        return {"format": "none"}


def refused(data: dict[str, Any]) -> bool:
    try:
        return verify(data) != ()
    except TilecValueError:
        return True


def test_a_question_that_is_not_that_of_the_problem_is_refused() -> None:
    problem = loops.fa3_forward(1)
    good = certificate(problem, solve(problem))
    assert good["smt2"] and verify(json.loads(canonical(good)), solver=True) == ()
    forged = "(set-logic QF_LIA)\n(assert false)\n(check-sat)\n"
    digest = hashlib.sha256(forged.encode()).hexdigest()
    bad = json.loads(canonical({**good, "smt2": forged, "smt2_sha256": digest}))
    assert any("not that of this problem" in fault for fault in verify(bad, solver=True))
    assert any("hash" in fault for fault in verify(json.loads(canonical({**good, "smt2": forged}))))
