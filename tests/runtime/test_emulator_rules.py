"""Every rule of the checker: a minimal PTX that breaks it, and the twin that does not.

A file of emulator_rules/ holds both. Lines marked "fault" belong to the wrong program only, lines
marked "mend" to its twin; "report" and "other" mark the instructions that the report must name.
Line numbers are the same in both, since the lines left out become empty.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from emulator_kit import MODES

from tilec.ir.errors import DeadlockError, RaceError, TilecError
from tilec.runtime import toolchain
from tilec.runtime.emulator import GlobalMemory, Outcome, run_ptx
from tilec.runtime.emulator.tensormap import SWIZZLES, TensorMap, element_code, encode

FOLDER = Path(__file__).parent / "emulator_rules"
FILES = sorted(p.stem for p in FOLDER.glob("*.ptx"))
_MARK = re.compile(r"//(.*)")
_MAP = re.compile(r"(maps?)\((\d+)x(\d+)/(\w+)\)")
# Seen only where elect.sync chooses another lane, or the order of warps is another one.
RANDOM_ONLY = {"e25_elect"}


@dataclass(frozen=True)
class Rule:
    """A file: its code, launch options, and the text with its marks."""

    name: str
    code: str
    launch: dict[str, str]
    lines: tuple[str, ...]

    def text(self, without: str) -> str:
        return "\n".join("" if without in marks(line) else line for line in self.lines) + "\n"

    def marked(self, mark: str) -> set[int]:
        return {i for i, line in enumerate(self.lines, 1) if mark in marks(line)}


def marks(line: str) -> set[str]:
    found = _MARK.search(line)
    return set(found[1].replace(",", " ").split()) if found and not line.startswith("//") else set()


def read(name: str) -> Rule:
    lines = (FOLDER / f"{name}.ptx").read_text(encoding="utf-8").splitlines()
    code = re.match(r"// (\w+): ", lines[0])
    assert code, f"{name} must begin with its code"
    return Rule(name, code[1], dict(re.findall(r"(\w+)=(\S+)", lines[1])), tuple(lines))


def argument(spec: str, memory: GlobalMemory) -> bytes:
    """The bytes of a parameter: "u32[32]" a pointer to an array, "map(128x64/128B)" a tensor map
    of bytes (inner x outer, swizzle), "maps(...)" a pointer to one."""
    found = _MAP.fullmatch(spec)
    rng = np.random.default_rng(7)
    if found is None:
        dtype, count = re.fullmatch(r"(\w+)\[(\d+)\]", spec).groups()  # type: ignore[union-attr]
        data = rng.integers(1, 99, int(count)).astype({"u32": np.uint32, "f32": np.float32}[dtype])
        return memory.add(data.tobytes()).to_bytes(8, "little")
    inner, outer = int(found[2]), int(found[3])
    base = memory.add(rng.integers(0, 60, inner * outer).astype(np.uint8).tobytes())
    swizzle = SWIZZLES.index(found[4])
    made = encode(TensorMap(base, (inner, outer), (inner,), (inner, outer), element_code("UINT8"), swizzle))
    return made if found[1] == "map" else memory.add(made).to_bytes(8, "little")


def run(rule: Rule, without: str, mode: Any, seed: int, **options: Any) -> Outcome:
    memory, params = GlobalMemory(), b""
    for spec in re.findall(r"\w+:([^,]+)", rule.launch.get("args", "")):
        raw = argument(spec, memory)
        params = params.ljust(-(-len(params) // 64) * 64 if len(raw) == 128 else len(params), b"\0") + raw
    defaults = {"block": 32, "grid": 1, "cluster": 1, "registers": 0}
    block, grid, cluster, registers = (int(rule.launch.get(k, d)) for k, d in defaults.items())
    return run_ptx(rule.text(without), "k", (grid,), (block,), params, memory, cluster=(cluster,), mode=mode,
                   seed=seed, registers=registers, **options)  # fmt: skip


def findings(rule: Rule, mode: Any, seed: int) -> list[tuple[str, int, int]]:
    """(code, line, other line) of all that is reported; a fault that stops the run comes last."""
    try:
        reports = run(rule, "mend", mode, seed, strict=False).reports
        return [(r.code, r.line, r.other_line) for r in reports]
    except TilecError as error:
        lines = {int(n) for n in re.findall(r"PTX line (\d+)", str(error))}
        last = [(error.code, line, 0) for line in sorted(lines)]
        return [(r.code, r.line, r.other_line) for r in getattr(error, "reports", ())] + last


@pytest.mark.parametrize("mode, seed", MODES)
@pytest.mark.parametrize("name", FILES)
def test_a_broken_rule_is_reported_at_its_line(name: str, mode: Any, seed: int) -> None:
    rule = read(name)
    if name in RANDOM_ONLY and mode != "random":
        pytest.skip("shows only where elect.sync chooses another lane")
    found = findings(rule, mode, seed)
    lines, others = rule.marked("report"), rule.marked("other") or {0}
    assert lines or rule.code == "E27"
    fits = [f for f in found if f[0] == rule.code and (f[1] in lines or not lines)]
    assert [f for f in fits if f[2] in others or others == {0}], found


@pytest.mark.parametrize("mode, seed", [*MODES, ("random", 3), ("random", 4), ("random", 5)])
@pytest.mark.parametrize("name", FILES)
def test_the_mended_twin_is_clean(name: str, mode: Any, seed: int) -> None:
    assert run(read(name), "fault", mode, seed).reports == ()


@pytest.mark.parametrize("name", [n for n in FILES if n.startswith("e") and not n.startswith("e25")])
def test_a_strict_run_raises_the_error(name: str) -> None:
    rule = read(name)
    with pytest.raises(TilecError) as raised:
        run(rule, "mend", "eager", 0)
    assert raised.value.code == rule.code


@pytest.mark.parametrize("name", FILES)
def test_an_unchecked_run_reports_nothing(name: str) -> None:
    rule = read(name)
    try:
        assert run(rule, "mend", "eager", 0, check=False).reports == ()
    except TilecError as error:
        assert not isinstance(error, RaceError)


@pytest.mark.parametrize("without", ["fault", "mend"])
@pytest.mark.parametrize("name", FILES)
def test_the_assembler_takes_both_twins(name: str, without: str) -> None:
    """What it rejects is named here: the fault is one that it sees itself."""
    if toolchain.find("ptxas") is None:
        pytest.skip("ptxas not found: pip install 'tilec[test]'")
    rule = read(name)
    text = rule.text(without)
    target = re.search(r"\.target (\w+)", text)
    if name in ("e17_size", "e22_value") and without == "mend":
        pytest.skip("ptxas rejects the fault")
    assert toolchain.assemble(text, target[1] if target else "")


def test_every_code_of_the_pages_has_a_pair() -> None:
    folder = Path(__file__).parents[2] / "docs"
    errors, rules = ((folder / f).read_text(encoding="utf-8") for f in ("errors.md", "emulator.md"))
    listed = set(re.findall(r"^\| ([EW]\d+) \|.*runtime/emulator", errors, flags=re.M))
    described = set(re.findall(r"^\| ([DEW]\d+) \|", rules, flags=re.M))
    assert described >= {*listed, "D400", "D416"}
    assert {read(name).code for name in FILES} >= described


@pytest.mark.parametrize(
    "name, texts",
    [
        (
            "d400_count",
            ["1 of 2 arrivals are owed; so far: CTA (0, 0, 0) warp 0", "initialised at PTX line 15"],
        ),
        ("d400_bytes", ["16 bytes are owed, last expected at PTX line 23", "E8: "]),
        ("d400_parity", ["phase 0 is over and no wait has seen that: is the parity the other one?"]),
        ("d400_registers", ["registers; the pool of the CTA has"]),
    ],
)
def test_a_deadlock_says_what_is_owed(name: str, texts: list[str]) -> None:
    with pytest.raises(DeadlockError) as raised:
        run(read(name), "mend", "eager", 0, strict=False)
    for text in texts:
        assert text in str(raised.value)


def test_a_deadlock_of_two_names_the_cycle() -> None:
    """Each of two warps waits for an arrival that the other makes after its own wait."""
    text = """.version 8.6
.target sm_90a
.address_size 64
.visible .entry k()
{
    .reg .pred %p<2>;
    .reg .b32 %r<1>;
    .shared .align 8 .b8 bars[16];
    mov.u32 %r0, %tid.x;
    setp.ne.u32 %p0, %r0, 0;
    @%p0 bra READY;
    mbarrier.init.shared::cta.b64 [bars], 32;
    mbarrier.init.shared::cta.b64 [bars+8], 32;
READY:
    bar.sync 0;
    setp.ge.u32 %p0, %r0, 32;
    @%p0 bra SECOND;
FIRST:
    mbarrier.try_wait.parity.shared::cta.b64 %p1, [bars], 0;
    @!%p1 bra FIRST;
    mbarrier.arrive.shared::cta.b64 _, [bars+8];
    ret;
SECOND:
    mbarrier.try_wait.parity.shared::cta.b64 %p1, [bars+8], 0;
    @!%p1 bra SECOND;
    mbarrier.arrive.shared::cta.b64 _, [bars];
    ret;
}
"""
    with pytest.raises(DeadlockError) as raised:
        run_ptx(text, "k", (1,), (64,), b"", GlobalMemory())
    cycle = next(line for line in str(raised.value).splitlines() if "cycle:" in line)
    assert "warp 0" in cycle and "warp 1" in cycle
