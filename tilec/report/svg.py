"""The Gantt chart of a plan as an SVG file, for papers: fixed colours, no script."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

LEFT, WIDE, ROW, THIN = 96, 900, 19, 8
COLOURS = ("#8ecae6", "#ffd166", "#a8d5a2", "#f4a6a6", "#cdb4db", "#f9c784")


class Drawn(NamedTuple):
    """A bar of one iteration, ``row`` rows below the top of its lane."""

    lane: str
    op: str
    start: int
    end: int
    kind: str
    iteration: int
    row: int


def gantt(plan: Mapping[str, Any], iterations: int | None = None) -> str:
    """The chart of a plan of a report's document, from the prologue to the epilogue."""
    count = iterations or plan["stages"] + 3
    end = (count - 1) * plan["ii"] + plan["length"]
    scale = (WIDE - LEFT - 8) / end
    body, y = list(_axis(end, scale)), 30
    for lane, label in plan["lanes"]:
        drawn = list(_stacked([b for b in plan["bars"] if b[0] == lane], plan["ii"], count))
        height = max(_height(drawn), ROW)
        body.append(_rect(LEFT, y - 2, WIDE - LEFT - 6, height + 2, "#e9ecf0"))
        body.append(_text(0, y + 13, label))
        body += [line for b in drawn for line in _bar(b, drawn, y, scale)]
        y += height + 6
    body += _phases(plan, count, scale, y)
    size = f'viewBox="0 0 {WIDE} {y + 14}" font-family="sans-serif" font-size="11"'
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {size}>', *body, "</svg>"]) + "\n"


def _stacked(bars: list[list[Any]], ii: int, count: int) -> Iterator[Drawn]:
    """All iterations of a lane's bars, each in the first row of its kind that is free."""
    items = [
        (start + i * ii, start + i * ii + n, kind, op, i, lane)
        for i in range(count)
        for lane, op, start, n, kind in bars
    ]
    ends: dict[bool, list[int]] = {True: [], False: []}
    for start, end, kind, op, i, lane in sorted(items):
        rows = ends[kind == "flight"]
        row = next((r for r, e in enumerate(rows) if e <= start), len(rows))
        rows[row : row + 1] = [end]
        yield Drawn(lane, op, start, end, kind, i, row)


def _height(drawn: list[Drawn]) -> int:
    solid = max((b.row + 1 for b in drawn if b.kind != "flight"), default=0)
    thin = max((b.row + 1 for b in drawn if b.kind == "flight"), default=0)
    return solid * ROW + thin * THIN


def _bar(b: Drawn, lane: list[Drawn], y: int, scale: float) -> Iterator[str]:
    solid = max((o.row + 1 for o in lane if o.kind != "flight"), default=0)
    flight = b.kind == "flight"
    top = y + (solid * ROW + b.row * THIN if flight else b.row * ROW)
    x, width = LEFT + b.start * scale, max(0.7, (b.end - b.start) * scale)
    yield _rect(x, top, width, 6 if flight else 17, COLOURS[b.iteration % len(COLOURS)], b.op)
    if not flight and len(b.op) * 6.2 < width - 4:
        yield _text(x + 3, top + 12, b.op)


def _axis(end: int, scale: float) -> Iterator[str]:
    """A tick for each round number of cycles, at most ten."""
    step = next(s * 10**e for e in range(12) for s in (1, 2, 5) if end <= 10 * s * 10**e)
    for cycle in range(0, end + 1, step):
        x = LEFT + cycle * scale
        yield f'<line x1="{x:.1f}" y1="18" x2="{x:.1f}" y2="24" stroke="#515963"/>'
        yield _text(x - 3 * len(str(cycle)), 14, str(cycle))


def _phases(plan: Mapping[str, Any], count: int, scale: float, bottom: int) -> Iterator[str]:
    steady = (plan["stages"] - 1) * plan["ii"]
    for cycle, name in ((0, "prologue"), (steady, "steady state"), (count * plan["ii"], "epilogue")):
        if cycle or steady:
            x = LEFT + cycle * scale
            ends = f'x1="{x:.1f}" y1="24" x2="{x:.1f}" y2="{bottom}"'
            yield f'<line {ends} stroke="#515963" stroke-dasharray="4 3"/>'
            yield _text(x + 3, bottom + 8, name)


def _rect(x: float, y: float, width: float, height: float, fill: str, title: str = "") -> str:
    inner, edge = (
        (f"<title>{escape(title)}</title>", ' stroke="#fff" stroke-width="0.5"') if title else ("", "")
    )
    return (
        f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{height}" fill="{fill}"{edge}>{inner}</rect>'
    )


def _text(x: float, y: float, text: str) -> str:
    return f'<text x="{x:.1f}" y="{y}">{escape(text)}</text>'
