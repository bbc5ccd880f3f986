"""Faults seeded into the PTX of our own kernels: each is reported with its code, at its line.

A fault changes one instruction (or moves it) without moving the lines of others. Sites that the
kernel does not reach are left out. ``every`` says whether each site must be found: some are not
needed in runs as short as these, such as the wait for a slot that has not been used before, or the
release of one that is not used again.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tilec.backends.artifact import Artifact
from tilec.backends.ptx import compile_kernel
from tilec.ir.errors import TilecError
from tilec.passes import Options, lower
from tilec.runtime.emulator import launch, scheduler
from tilec.runtime.emulator.check_mbarrier import BarrierWatch

_spec = importlib.util.spec_from_file_location(
    "hopper_kit", Path(__file__).parents[1] / "backends" / "hopper_kit.py"
)
assert _spec is not None and _spec.loader is not None
kit: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(kit)

TIMINGS = [("eager", 0), ("lazy", 0), *(("random", seed) for seed in range(1, 6))]
KERNELS = ("gemm", "two groups", "attention")
Lines = list[str]


@dataclass(frozen=True)
class Case:
    """A kernel, ready to run; ``reached`` are the lines that it executes, ``full`` the waits for
    mbarriers on which copies complete."""

    artifact: Artifact
    grid: tuple[int, ...]
    args: tuple[Any, ...]
    reached: frozenset[int]
    full: frozenset[int]

    @property
    def lines(self) -> Lines:
        return self.artifact.text.splitlines()


def _arguments(name: str) -> tuple[Any, tuple[int, ...], list[Any], dict[str, int]]:
    array, half = kit.random_array, np.float16
    if name == "gemm":
        return (
            kit.persistent,
            (1,),
            [array((128, 320)), array((320, 64), seed=1), np.zeros((128, 64), half)],
            {},
        )
    if name == "two groups":
        args = [array((128, 320)), array((320, 64), seed=1), np.zeros((128, 64), half)]
        return kit.gemm, (1, 1), args, {"BM": 128}
    args = [array((1, 320, 64), seed=i) for i in range(3)] + [np.zeros((1, 320, 64), half)]
    return kit.attention, (1, 1), args, {}


@cache
def case(name: str) -> Case:
    fn, grid, args, meta = _arguments(name)
    scheduled = lower(kit.tile_kernel(fn, args, **meta), "sm_90a", Options(stages=2)).scheduled
    artifact = compile_kernel(scheduled)
    reached: set[int] = set()
    full: set[int] = set()
    with pytest.MonkeyPatch.context() as patch:
        execute, waited = scheduler.Scheduler._execute, BarrierWatch.waited

        def seen(self: Any, s: Any, op: Any) -> bool:
            reached.add(op.inst.line)
            return execute(self, s, op)

        def waits(self: Any, s: Any, inst: Any, phase: int) -> None:
            full.update([inst.line] if self.armed else [])
            waited(self, s, inst, phase)

        patch.setattr(scheduler.Scheduler, "_execute", seen)
        patch.setattr(BarrierWatch, "waited", waits)
        launch(artifact, grid, [kit.twin(a) for a in args])
    return Case(artifact, grid, tuple(args), frozenset(reached), frozenset(full))


def findings(made: Case, lines: Lines, mode: Any, seed: int) -> list[tuple[str, set[int]]]:
    """(code, lines named) of all reports, and of the error that stops the run."""
    changed = replace(made.artifact, text="\n".join(lines) + "\n")
    try:
        reports = launch(
            changed, made.grid, [kit.twin(a) for a in made.args], mode=mode, seed=seed, strict=False
        )
        return [(r.code, {r.line, r.other_line}) for r in reports.reports]
    except TilecError as error:
        found = [(r.code, {r.line, r.other_line}) for r in getattr(error, "reports", ())]
        return [*found, (error.code, {int(n) for n in re.findall(r"PTX line (\d+)", str(error))})]


Change = Callable[[Lines, int], Lines | None]


@dataclass(frozen=True)
class Fault:
    """Where it is put, how, the codes that may report it, and which instructions the report may
    name (None: the changed line itself). ``copies``: only waits for copies, or only others."""

    site: str
    change: Change
    codes: tuple[str, ...]
    named: str | None
    every: bool = True
    copies: bool | None = None


def _with(lines: Lines, i: int, text: str) -> Lines:
    return [*lines[:i], text, *lines[i + 1 :]]


def number(change: Callable[[int], int]) -> Change:
    """Change the last operand, an integer; None where it would be no longer legal."""

    def run(lines: Lines, i: int) -> Lines | None:
        found = re.search(r"(\d+);", lines[i])
        if found is None or change(int(found[1])) < 1:
            return None
        return _with(lines, i, lines[i].replace(found[0], f"{change(int(found[1]))};"))

    return run


def no_wait(lines: Lines, i: int) -> Lines:
    predicate = re.search(r"(%p\d+),", lines[i])
    assert predicate is not None
    return _with(lines, i, f"    setp.eq.u32 {predicate[1]}, 0, 0;")


def other_parity(lines: Lines, i: int) -> Lines:
    parity = re.search(r", (%r\d+);", lines[i])
    assert parity is not None
    text = lines[i].strip().replace(f", {parity[1]};", ", %other;")
    return _with(lines, i, f"    {{ .reg .b32 %other; xor.b32 %other, {parity[1]}, 1; {text} }}")


def other_swizzle(lines: Lines, i: int) -> Lines:
    """From 128 bytes (1) to 64 (2), in bits 62 and 63 of the descriptor of B."""
    descriptor = re.findall(r"(%rd\d+)", lines[i])[-1]
    text = re.sub(rf"{descriptor}\b", "%other", lines[i].strip())
    return _with(
        lines, i, f"    {{ .reg .b64 %other; xor.b64 %other, {descriptor}, 0xC000000000000000; {text} }}"
    )


def early(lines: Lines, i: int) -> Lines | None:
    """The wait for the products comes after the arrival that hands their operands back."""
    waits = [j for j in range(max(i - 20, 0), i) if "wgmma.wait_group" in lines[j]]
    if not waits:
        return None
    moved = list(lines)
    moved[waits[-1]] = ""
    return _with(moved, i, f"{lines[i]} {lines[waits[-1]].strip()}")


def first_slot(lines: Lines, i: int) -> Lines:
    """The address of a slot of the ring is always that of the first one."""
    return _with(lines, i, re.sub(r"mad.lo.s32 (%r\d+), %r\d+, \d+,", r"add.s32 \1, 0,", lines[i]))


def drop(lines: Lines, i: int) -> Lines:
    return _with(lines, i, "")


_PRODUCT, _COPY = "wgmma.mma_async", "cp.async.bulk.tensor"
_READ = f"{_PRODUCT}|ldmatrix|ld.shared"
_STUCK = f"{_READ}|try_wait"
FAULTS = {
    "no wait for a copy": Fault("try_wait", no_wait, ("E3",), _READ, copies=True),
    "no wait for a slot": Fault("try_wait", no_wait, ("E4", "E9", "E10"), f"{_COPY}|expect_tx", False, False),
    "other parity at a copy": Fault("try_wait", other_parity, ("E3", "D400"), _STUCK, copies=True),
    "other parity at a slot": Fault("try_wait", other_parity, ("E4", "E9", "E10", "D400"), "", False, False),
    "16 bytes more": Fault("expect_tx", number(lambda n: n + 16), ("E8",), None),
    "16 bytes less": Fault("expect_tx", number(lambda n: n - 16), ("E8",), None),
    "twice the bytes": Fault("expect_tx", number(lambda n: 2 * n), ("E8",), None),
    "half of the bytes": Fault("expect_tx", number(lambda n: n // 2), ("E8",), None),
    "no proxy fence": Fault("fence.proxy.async", drop, ("E1",), f"{_COPY}|{_PRODUCT}"),
    "no wgmma.fence": Fault("wgmma.fence", drop, ("E6",), _PRODUCT),
    "no wgmma.commit": Fault("wgmma.commit", drop, ("E4", "E5", "E7"), ""),
    "no wgmma.wait": Fault("wgmma.wait", drop, ("E4", "E5", "E7"), ""),
    "wgmma.wait for one less": Fault("wgmma.wait", number(lambda n: n + 1), ("E4", "E5", "E7"), ""),
    "no bulk commit": Fault("bulk.commit", drop, ("E18",), _COPY),
    "no bulk wait": Fault("bulk.wait", drop, ("E18",), _COPY, False),
    "early release": Fault(r"mbarrier.arrive.shared", early, ("E4",), _COPY, False),
    "no release": Fault(r"mbarrier.arrive.shared", drop, ("D400",), "try_wait", False),
    "other swizzle": Fault(_PRODUCT, other_swizzle, ("E17",), None),
    "an arrival more": Fault("mbarrier.init", number(lambda n: n + 1), ("D400",), None, False),
    "an arrival less": Fault("mbarrier.init", number(lambda n: n - 1), ("E3", "E4", "E9", "E10"), "", False),
    "no barrier after init": Fault(r"bar.sync 0;", drop, ("E12",), "mbarrier.init"),
    "no barrier": Fault(r"bar.sync [1-9]", drop, ("E1", "E3", "E4", "E18"), "", False),
    "stale slot": Fault(r"mad.lo.s32 %r\d+, %r\d+, (8192|16384),", first_slot, ("E3", "E4"), "", False),
}  # fmt: skip


def sites(made: Case, fault: Fault) -> Iterator[tuple[int, Lines]]:
    lines = made.lines
    for i, line in enumerate(lines):
        wanted = fault.copies is None or fault.copies == (i + 1 in made.full)
        if re.search(fault.site, line) and i + 1 in made.reached and wanted:
            changed = fault.change(lines, i)
            if changed is not None:
                yield i + 1, changed


def is_found(made: Case, fault: Fault, at: int, found: list[tuple[str, set[int]]]) -> bool:
    lines = made.lines
    for code, named in found:
        if code in fault.codes:
            if fault.named is None and at in named:
                return True
            if fault.named is not None and any(re.search(fault.named, lines[n - 1]) for n in named if n):
                return True
    return False


@pytest.mark.parametrize("mode, seed", TIMINGS)
@pytest.mark.parametrize("name", KERNELS)
def test_the_kernels_themselves_are_clean(name: str, mode: Any, seed: int) -> None:
    assert findings(case(name), case(name).lines, mode, seed) == []


def _check(name: str, fault: str, mode: Any, seed: int) -> None:
    made, what = case(name), FAULTS[fault]
    results = {at: findings(made, lines, mode, seed) for at, lines in sites(made, what)}
    missed = {at: found for at, found in results.items() if not is_found(made, what, at, found)}
    assert not missed if what.every else len(missed) < max(len(results), 1), missed


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", KERNELS)
def test_a_seeded_fault_is_reported(name: str, fault: str) -> None:
    _check(name, fault, "eager", 0)


@pytest.mark.slow
@pytest.mark.parametrize("mode, seed", TIMINGS[1:])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", KERNELS)
def test_a_seeded_fault_is_reported_in_every_mode(name: str, fault: str, mode: Any, seed: int) -> None:
    _check(name, fault, mode, seed)


@pytest.mark.parametrize("fault", FAULTS)
def test_there_is_a_site_for_each_fault(fault: str) -> None:
    assert sum(1 for name in KERNELS for _ in sites(case(name), FAULTS[fault]))
