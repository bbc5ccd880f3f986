"""Random programs of warps, copies, barriers and fences: the checker reports what a brute-force
happens-before relation finds, in every mode and order."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from emulator_kit import MODES

from tilec.ir.ptx.module import Module
from tilec.ir.ptx.parser import parse
from tilec.runtime.emulator import GlobalMemory, run_ptx
from tilec.runtime.emulator.clocks import Clocks
from tilec.runtime.emulator.shadow import Shadow

WARPS, BLOCKS = 3, 2
COPY = "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes"
HEAD = f""".version 8.6
.target sm_90a
.address_size 64
.visible .entry k(.param .u64 data)
{{
    .reg .pred %p<3>;
    .reg .b32 %r<4>;
    .reg .b64 %rd<2>;
    .shared .align 128 .b8 tile[{16 * BLOCKS}];
    .shared .align 8 .b8 bars[512];
    mov.u32 %r0, %tid.x;
    ld.param.u64 %rd0, [data];
    cvta.to.global.u64 %rd0, %rd0;
    setp.ne.u32 %p0, %r0, 0;
    @%p0 bra READY;
BEGIN
READY:
    st.shared.v4.u32 [tile], {{0, 0, 0, 0}};
    st.shared.v4.u32 [tile+16], {{0, 0, 0, 0}};
    fence.proxy.async.shared::cta;
    bar.sync 0;
    shr.u32 %r1, %r0, 5;
    and.b32 %r2, %r0, 31;
    setp.eq.u32 %p1, %r2, 0;
"""


@dataclass
class Event:
    """One step. ``words`` are what it touches, ``place`` the first of them (of a copy's issue: the
    first that it will write; of a barrier: its name); ``after`` the events that it waits for."""

    kind: str
    warps: tuple[int, ...]
    words: frozenset[int] = frozenset()
    place: int = 0
    after: list[Event] = field(default_factory=list, repr=False)
    number: int = 0
    line: int = 0

    @property
    def writes(self) -> bool:
        return self.kind in ("st", "copy", "land")

    @property
    def generic(self) -> bool:
        return self.kind in ("st", "ld")


def program(seed: int, steps: int = 14) -> list[Event]:
    """Events in an order that can run. A copy is two events: its issue, which is program order,
    and "land", which only those who wait for it are ordered after."""
    rng = np.random.default_rng(seed)
    events: list[Event] = []
    copies: list[Event] = []
    for _ in range(steps):
        kind = rng.choice(["st", "ld", "st", "ld", "aread", "copy", "fence", "bar", "signal", "await"])
        warp = int(rng.integers(WARPS))
        block = int(rng.integers(BLOCKS))
        span = frozenset(range(4 * block, 4 * block + 4))
        if kind in ("st", "ld"):
            word = 4 * block + int(rng.integers(2))
            events.append(Event(kind, (warp,), frozenset([word]), word))
        elif kind == "aread":
            events.append(Event(kind, (warp,), span, 4 * block))
        elif kind == "copy" and rng.random() < 0.7:
            issue = Event("issue", (warp,), place=4 * block)
            events += [issue, Event("land", (), span, after=[issue])]
            copies.append(events[-1])
        elif kind == "fence":
            events.append(Event(kind, (warp,)))
        elif kind == "bar":
            group = rng.permutation(WARPS)[: int(rng.integers(2, WARPS + 1))]
            name = 1 + sum(e.kind == "bar" for e in events)
            events.append(Event(kind, tuple(sorted(group.tolist())), place=name))
        elif kind == "signal":
            sent = Event("signal", (warp,))
            events += [sent, Event("receive", ((warp + 1) % WARPS,), after=[sent])]
        elif kind == "await" and copies:
            events.append(Event(kind, (warp,), after=[copies[int(rng.integers(len(copies)))]]))
    for i, event in enumerate(events):
        event.number = i
    return events


def text(events: list[Event]) -> str:
    """The PTX, and the line of each event. Every signal and copy has an mbarrier of its own."""
    bars = {e.number: 8 * i for i, e in enumerate(e for e in events if e.kind in ("signal", "issue"))}
    begin = [f"    mbarrier.init.shared::cta.b64 [bars+{at}], 1;" for at in bars.values()]
    lines = HEAD.replace("BEGIN", "\n".join(begin)).splitlines()
    for warp in range(WARPS):
        lines += [f"    setp.ne.u32 %p0, %r1, {warp};", f"    @%p0 bra NEXT{warp};"]
        for e in (e for e in events if warp in e.warps):
            _emit(lines, e, bars, warp)
        lines += ["    ret;", f"NEXT{warp}:"]
    for e in events:
        e.line = e.after[0].line if e.kind == "land" else e.line
    return "\n".join([*lines, "    ret;", "}"]) + "\n"


def _emit(lines: list[str], e: Event, bars: dict[int, int], warp: int) -> None:
    word = f"[tile+{4 * e.place}]"
    source = e.after[0].after[0] if e.kind == "await" else e.after[0] if e.after else e
    bar, spin = f"[bars+{bars.get(source.number, 0)}]", f"W{e.number}_{warp}"
    wait = [
        f"{spin}:", f"    mbarrier.try_wait.parity.shared::cta.b64 %p2, {bar}, 0;", f"    @!%p2 bra {spin};",
    ]  # fmt: skip
    body = {
        "st": [f"    st.shared.u32 {word}, {e.number + 1};"],
        "ld": [f"    ld.shared.u32 %r3, {word};"],
        "aread": [
            f"    @%p1 cp.async.bulk.global.shared::cta.bulk_group [%rd0+{64 + 16 * e.number}], {word}, 16;",
            "    @%p1 cp.async.bulk.commit_group;", "    @%p1 cp.async.bulk.wait_group.read 0;",
        ],
        "issue": [
            f"    @%p1 {COPY} {word}, [%rd0], 16, {bar};",
            f"    @%p1 mbarrier.arrive.expect_tx.shared::cta.b64 _, {bar}, 16;",
        ],
        "fence": ["    fence.proxy.async.shared::cta;"],
        "bar": [f"    bar.sync {e.place}, {32 * len(e.warps)};"],
        "signal": [f"    @%p1 mbarrier.arrive.shared::cta.b64 _, {bar};"],
        "receive": wait, "await": wait,
    }[e.kind]  # fmt: skip
    e.line = len(lines) + 1
    lines += body


class Order:
    """Happens-before by brute force: the transitive closure of program order, barriers, signals,
    and waits for copies."""

    def __init__(self, events: list[Event]) -> None:
        n = len(events)
        self.before = np.zeros((n, n), bool)
        for warp in range(WARPS):
            mine = [e.number for e in events if warp in e.warps]
            for i, j in itertools.pairwise(mine):
                self.before[i, j] = True
        for e in events:
            for other in e.after:
                self.before[other.number, e.number] = True
        for k in range(n):
            self.before |= self.before[:, k : k + 1] & self.before[k : k + 1, :]
        self.fences = [e.number for e in events if e.kind == "fence"]

    def ordered(self, a: Event, b: Event) -> bool:
        return bool(self.before[a.number, b.number])

    def fenced(self, a: Event, b: Event) -> bool:
        return any(self.before[a.number, f] and self.before[f, b.number] for f in self.fences)


def conflicts(events: list[Event]) -> list[tuple[Event, Event]]:
    """Pairs in the order of the list that touch a word, of which one writes."""
    pairs = itertools.combinations([e for e in events if e.words], 2)
    return [(a, b) for a, b in pairs if a.words & b.words and (a.writes or b.writes)]


def expected(events: list[Event]) -> tuple[set[tuple[int, int]], set[tuple[int, int]]]:
    """(races, pairs that lack a proxy fence) as unordered pairs of lines."""
    order, races, bare = Order(events), set(), set()
    for a, b in conflicts(events):
        first, later = (a, b) if not order.ordered(b, a) else (b, a)
        if not order.ordered(first, later):
            races.add((min(a.line, b.line), max(a.line, b.line)))
        elif first.generic and not later.generic and not order.fenced(first, later):
            bare.add((min(a.line, b.line), max(a.line, b.line)))
    return races, bare


def unfenced_reads(events: list[Event]) -> set[int]:
    """Lines of asynchronous reads whose last write, in a program without races, is ordinary and
    lacks the fence."""
    order, found = Order(events), set()
    for read in (e for e in events if e.kind == "aread"):
        for word in read.words:
            writes = [w for w in events if w.writes and word in w.words and order.ordered(w, read)]
            last = [w for w in writes if not any(order.ordered(w, v) for v in writes)]
            if last and last[0].generic and not order.fenced(last[0], read):
                found.add(read.line)
    return found


def lines_of(reports: list[Any], *codes: str) -> set[tuple[int, int]]:
    found = [(r.line, r.other_line) for r in reports if r.code in codes]
    return {(min(pair), max(pair)) for pair in found}


def reports_of(module: Module, mode: Any, seed: int) -> list[Any]:
    memory = GlobalMemory()
    base = memory.add(np.arange(256, dtype=np.uint32).tobytes())
    params = base.to_bytes(8, "little")
    run = run_ptx(module, "k", (1,), (32 * WARPS,), params, memory, mode=mode, seed=seed, strict=False)
    return list(run.reports)


def compare(number: int) -> None:
    """Reports are true pairs; there is one if there is any; and so for fences."""
    events = program(number)
    module = parse(text(events))
    races, bare = expected(events)
    for mode, seed in MODES:
        reports = reports_of(module, mode, seed)
        pairs, lacking = lines_of(reports, "E3", "E4", "E18"), lines_of(reports, "E1", "W2")
        assert pairs <= races, (number, mode, pairs - races)
        assert bool(pairs) == bool(races), (number, mode, races)
        assert lacking <= bare | races, (number, mode, lacking - bare)
        # E23: the kernel ends, and nobody has waited for a copy.
        assert {r.code for r in reports} <= {"E1", "W2", "E3", "E4", "E18", "E23"}, (number, mode, reports)
        if not races:
            assert {r.line for r in reports if r.code == "E1"} >= unfenced_reads(events), (number, mode)


@pytest.mark.parametrize("batch", range(8))
def test_reports_are_those_of_brute_force(batch: int) -> None:
    for number in range(20 * batch, 20 * batch + 20):
        compare(number)


@pytest.mark.slow
@pytest.mark.parametrize("batch", range(8, 100))
def test_many_reports_are_those_of_brute_force(batch: int) -> None:
    for number in range(20 * batch, 20 * batch + 20):
        compare(number)


@pytest.mark.parametrize(
    "blind", [(Clocks, "acquire"), (Clocks, "fence"), (Clocks, "learn"), (Shadow, "after_reads")]
)
def test_a_checker_that_is_blind_to_something_fails(blind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*blind, lambda *_: None)
    with pytest.raises(AssertionError):
        for number in range(60):
            compare(number)


def test_the_programs_are_of_all_kinds() -> None:
    """Clean ones, racing ones, and ones that only lack fences."""
    lines = []
    for number in range(160):
        events = program(number)
        text(events)
        lines.append(expected(events))
    assert sum(not r and not b for r, b in lines) > 10
    assert sum(bool(r) for r, _ in lines) > 30
    assert sum(not r and bool(b) for r, b in lines) > 3
