"""The chart as SVG, the plan as a trace, the page's policy."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import xml.etree.ElementTree as ET
from itertools import pairwise
from typing import Any

import pytest
from report_kit import compiled, kernel_report, loop_report

from tilec.ir.errors import TilecValueError
from tilec.report import gantt, page, trace

SVG = "{http://www.w3.org/2000/svg}"


def chosen(name: str) -> dict[str, Any]:
    plan: dict[str, Any] = kernel_report(name)["loops"][0]["plans"][0]
    return plan


def test_the_chart_has_every_bar_of_every_iteration() -> None:
    plan = chosen("attention")
    drawn = [e for e in ET.fromstring(gantt(plan)).iter(f"{SVG}rect") if e.find(f"{SVG}title") is not None]
    assert len(drawn) == len(plan["bars"]) * (plan["stages"] + 3)
    labels = {e.text for e in ET.fromstring(gantt(plan)).iter(f"{SVG}text")}
    assert {label for _, label in plan["lanes"]} | {"prologue", "steady state", "epilogue"} <= labels


def test_bars_of_a_lane_do_not_lie_on_each_other() -> None:
    root = ET.fromstring(gantt(chosen("attention")))
    boxes: dict[str, list[tuple[float, float]]] = {}
    for e in root.iter(f"{SVG}rect"):
        if e.find(f"{SVG}title") is not None and float(e.attrib["width"]) > 1:
            start = float(e.attrib["x"])
            boxes.setdefault(e.attrib["y"], []).append((start, start + float(e.attrib["width"])))
    for row in boxes.values():
        row.sort()
        assert all(b[0] >= a[1] - 0.2 for a, b in pairwise(row))


def test_names_are_escaped() -> None:
    plan = json.loads(json.dumps(chosen("gemm")).replace("dot.23", "<b>&"))
    assert "&lt;b&gt;&amp;" in gantt(plan)
    ET.fromstring(gantt(plan))


def test_a_trace_has_the_plan_beside_an_emulator_run() -> None:
    plan = chosen("gemm")
    run = json.dumps({"traceEvents": [{"ph": "X", "pid": 0, "tid": 0, "ts": 0, "dur": 1, "name": "mov"}]})
    events = json.loads(trace(plan, 3, [w for _, w, _ in kernel_report("gemm")["emitted"]], run))[
        "traceEvents"
    ]
    tracks = [e["args"]["name"] for e in events if e.get("name") == "thread_name"]
    assert tracks[:2] == ["load (warps 0 to 3)", "compute (warps 4 to 11)"]
    assert events[0]["name"] == "mov"
    slices = [e for e in events if e["ph"] == "X" and e["pid"] != 0]
    solid = [b for b in plan["bars"] if b[4] != "flight"]
    assert len(slices) == 3 * len(solid)
    starts = {e["ts"] for e in slices if e["name"] == "dot.23"}
    assert {b - a for a, b in pairwise(sorted(starts))} == {plan["ii"]}
    ids = [e["id"] for e in events if e["ph"] == "b"]
    assert len(set(ids)) == len(ids) and sorted(ids) == sorted(e["id"] for e in events if e["ph"] == "e")


@pytest.mark.parametrize("text", ["{", "[]", "{}", "3"])
def test_what_is_no_trace_is_refused(text: str) -> None:
    with pytest.raises(TilecValueError, match="V520"):
        trace(chosen("gemm"), 1, run=text)


def test_the_page_allows_its_own_script_and_style_only() -> None:
    html = page([kernel_report("gemm")])
    policy = re.findall(r'Content-Security-Policy" content="([^"]+)"', html)[0].replace("&#39;", "'")
    script = html[html.rindex("<script>") + 8 : html.rindex("</script>")]
    style = html[html.index("<style>") + 7 : html.index("</style>")]
    for kind, text in (("script", script), ("style", style)):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy
    assert not re.search(r'(?:src|href)="(?!#)', html)
    assert len(html.encode()) < 3_000_000


def test_the_same_report_gives_the_same_page() -> None:
    made = loop_report("toy")
    assert page([made]) == page([json.loads(json.dumps(made))])


def test_names_cannot_leave_the_data_block() -> None:
    evil = json.loads(json.dumps(loop_report("toy")).replace('"toy"', '"</script><script>alert(1)</script>"'))
    html = page([evil])
    assert html.count("<script") == 2 and "alert(1)</script>" not in html


def test_a_compiled_kernel_writes_its_page(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = compiled("gemm")
    assert made.report().name == "gemm.html" and (tmp_path / "gemm.html").read_text().startswith(
        "<!doctype html>"
    )
    data = json.loads(made.report(tmp_path / "r.json").read_text())
    assert data["format"] == "tilec-report/1"
    frame = made._repr_html_()
    assert frame.startswith("<iframe") and "<script" not in frame and "&lt;script" in frame
