"""What ptxas makes of six kernels, ours and Triton's, and what the schedule proves: writes docs/evidence.md.

python .ci/evidence.py: needs ptxas and nvdisasm (pip install 'tilec[test]'), and Triton for its rows.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tilec.bench_compile.cases import CASES
from tilec.runtime import sass, toolchain

ROOT = Path(__file__).parents[1]
TARGET = "sm_90a"
COLUMNS = ("instructions", "stalls", *sass.KINDS)

PAGE = """\
# Evidence

What can be said of six kernels without a GPU: the interval of their loop with its bound, how full
each unit is in [the machine model](machine-model.md), and what ptxas {ptxas} makes of the PTX for {target}.
**Nothing here was measured on a GPU.** Static counts are not speed. `python .ci/evidence.py` makes this page;
Triton's rows are its version {triton}, with kernels as its users write them (`tilec/bench_compile/`).

## Schedules

| kernel | interval | bound | units in the model |
|---|---|---|---|
{schedules}

Softmax and layer norm fill no ring, so there is nothing to schedule.

## Resources

| kernel | compiler | registers | shared memory | spilled bytes | instructions |
|---|---|---|---|---|---|
{resources}

Registers are those of the launch; groups change theirs by `setmaxnreg`.

## The loop of the products

Instructions of one warp in the innermost loop, a step of K (64, for 8 bits 128) or 128 keys, the sum of their
stall cycles, and instructions by kind (`runtime/sass.py`). Ours masks keys beyond the end in every step, as
Triton's does here.

| kernel | compiler | {columns} |
|---|---|{rules}|
{loops}
"""


def ours() -> Iterator[tuple[str, Any]]:
    for name, case in CASES.items():
        yield name, case.kernel.compile(case.signature, target=TARGET, **case.constants)


def tritons() -> Mapping[str, bytes]:
    """Triton's machine code by kernel; empty where it is not installed."""
    if importlib.util.find_spec("triton") is None:
        return {}
    from tilec.bench_compile.once import tritons as maker

    return {name: maker(name, "cubin")() for name in CASES}  # type: ignore[misc]


def units(problem: Any, ii: int) -> str:
    load = {u: problem.load[u] / count / ii for u, count in problem.limits.units if problem.load[u]}
    return ", ".join(f"{u} {100 * share:.0f} %" for u, share in sorted(load.items(), key=lambda x: -x[1]))


def schedules(name: str, made: Any) -> Iterator[str]:
    for problem, answer in zip(made.stages.problems, made.schedule, strict=True):
        ii, bound = answer.schedule.ii, answer.bound
        why = {
            "unit": f"{bound.names[0] if bound.names else ''} is held all the time",
            "range": "refuted below",
        }
        reason = f"{answer.status}: {why.get(bound.kind, bound.kind)}"
        yield f"| {name} | {ii} | {reason} | {units(problem, ii)} |"


def resources(name: str, maker: str, cubin: bytes, facts: str) -> str:
    code = sass.parse(toolchain.disassemble(cubin, hex=True)).code
    return f"| {name} | {maker} | {facts} | {len(code)} |"


def loop(name: str, maker: str, cubin: bytes) -> Iterator[str]:
    found = sass.parse(toolchain.disassemble(cubin, hex=True)).product_loop()
    if found:
        numbers = sass.counts(found)
        yield f"| {name} | {maker} | {' | '.join(str(numbers.get(c, 0)) for c in COLUMNS)} |"


def main(folder: Path = ROOT / "docs") -> None:
    os.environ["TILEC_CACHE_DIR"] = tempfile.mkdtemp()
    theirs = tritons()
    plans: list[str] = []
    room: list[str] = []
    loops: list[str] = []
    for name, made in ours():
        done = toolchain.assemble(made.asm["ptx"], TARGET)
        plans += schedules(name, made)
        memory, spilled = made.artifact.smem_bytes, done.spill_stores + done.spill_loads
        room.append(resources(name, "tilec", done.cubin, f"{done.registers} | {memory} | {spilled}"))
        loops += loop(name, "tilec", done.cubin)
        if name in theirs:
            room.append(resources(name, "Triton", theirs[name], "- | - | -"))
            loops += loop(name, "Triton", theirs[name])
    text = PAGE.format(
        target=TARGET,
        ptxas=toolchain.tool_version(toolchain.need("ptxas")),
        triton=importlib.metadata.version("triton") if theirs else "(not installed)",
        schedules="\n".join(plans),
        resources="\n".join(room),
        loops="\n".join(loops),
        columns=" | ".join(COLUMNS),
        rules="|".join("---" for _ in COLUMNS),
    )
    (folder / "evidence.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
