"""What ptxas makes of every kernel of the examples, and what its schedule proves: writes docs/evidence.md.

python .ci/evidence.py [FOLDER]: needs ptxas and nvdisasm (pip install 'tilec[test]'); Triton for its rows.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "examples"), str(ROOT / "tests" / "examples")]

from own_tiles import OWN_TILES  # noqa: E402

from tilec.bench_compile.cases import BESIDE_TRITON  # noqa: E402
from tilec.ir.errors import TilecError  # noqa: E402
from tilec.runtime import sass, toolchain  # noqa: E402

HOPPER = "sm_90a"
TARGETS = (HOPPER, "sm_80")
COLUMNS = ("instructions", "stalls", *sass.KINDS)
WHY = {"range": "less is refuted", "": ""}
FLOAT8 = "sm_80 has no conversions of 8-bit floats"

PAGE = """\
# Evidence

What can be said of the kernels without a GPU: the interval of their loops with its bound, how full
each unit is in [the machine model](machine-model.md), and what ptxas {ptxas} makes of the PTX.
**Nothing here was measured on a GPU.** Static counts are not speed. `python .ci/evidence.py` makes this page.

Counts are of one warp in an innermost loop around tensor core products (of several the first; of a kernel
without one all its code), the stalls that the assembler wrote into them, and instructions by kind
(`runtime/sass.py`). Registers are those of the launch; groups change theirs by `setmaxnreg`.

## Beside Triton

The same kernel for both, {target}. Triton's rows are its version {triton}, with kernels as its users write
them (`tilec/bench_compile/`). A turn of the loop is a step of K (64; 8 bits 128; tf32 32) or 128 keys.
Triton's keys are masked in every turn. Of ours, each compute group has a loop for tiles that the mask cannot
touch, nearly all of them, and one for those at its edge; head size 64 also has one for few turns.

| kernel | compiler | spilled bytes | all | loop | {columns} |
|---|---|---|---|---|{rules}|
{beside}
{targets}"""

TARGET = """
## Every kernel of the examples on {target}

At the tiles that the example names.

| kernel | interval | bound | units in the model |
|---|---|---|---|
{schedules}

Not scheduled, and why:

{unscheduled}

| kernel | registers | shared memory | spilled bytes | {columns} |
|---|---|---|---|{rules}|
{code}
"""


@dataclass(frozen=True)
class Made:
    """A kernel as compiled and assembled."""

    name: str
    compiled: Any
    assembled: Any

    @property
    def spilled(self) -> int:
        return int(self.assembled.spill_stores + self.assembled.spill_loads)


def made(name: str, kernel: Any, types: Any, constants: Mapping[str, Any], target: str) -> Made:
    compiled = kernel.compile(types, target=target, **constants)
    return Made(name, compiled, toolchain.assemble(compiled.asm["ptx"], target))


def title(kernel: str, types: str, constants: Mapping[str, Any]) -> str:
    first = types if "=" in types else types.split("[")[0]
    return " ".join((kernel, first, *(f"{k}={v}" for k, v in constants.items())))


def examples(target: str) -> Iterator[Made | str]:
    """Each kernel of the examples; where the target cannot have it, why."""
    for file, kernel, types, constants in OWN_TILES:
        name = title(kernel, types, constants)
        try:
            found = getattr(importlib.import_module(file), kernel)
            yield made(name, found, re.split(",(?! )", types), constants, target)
        except TilecError as error:
            yield f"| {name} | {error.code}: {error.message} |"


def units(problem: Any, ii: int) -> str:
    load = {u: problem.load[u] / count / ii for u, count in problem.limits.units if problem.load[u]}
    return ", ".join(f"{u} {100 * share:.0f} %" for u, share in sorted(load.items(), key=lambda x: -x[1]))


def schedules(m: Made) -> Iterator[str]:
    for problem, answer in zip(m.compiled.stages.problems, m.compiled.schedule, strict=True):
        if answer.schedule is None:
            yield f"| {m.name} | - | {answer.status}: in program order | |"
            continue
        ii, bound = answer.schedule.ii, answer.bound
        unit = f"{bound.names[0] if bound.names else ''} is held all the time"
        reason = unit if bound.kind == "unit" else WHY.get(bound.kind, bound.kind)
        yield f"| {m.name} | {ii} | {answer.status}: {reason} | {units(problem, ii)} |"


def unplanned(m: Made) -> bool:
    return not m.compiled.schedule or any(a.schedule is None for a in m.compiled.schedule)


def listing(cubin: bytes) -> sass.Listing:
    return sass.parse(toolchain.disassemble(cubin, hex=True))


def shown(code: Sequence[sass.Code]) -> str:
    numbers = sass.counts(code)
    return " | ".join(str(numbers.get(c, 0)) for c in COLUMNS)


def section(target: str) -> str:
    found = list(examples(target))
    there = [m for m in found if isinstance(m, Made)]
    loops = [row for m in there for row in schedules(m)]
    reasons = [f"- {m.name}: {'; '.join(map(str, m.compiled.notes))}" for m in there if unplanned(m)]
    code = [
        f"| {m.name} | {m.assembled.registers} | {m.compiled.artifact.smem_bytes} | {m.spilled} | "
        f"{shown(code.product_loop() or code.code)} |"
        for m in there
        for code in (listing(m.assembled.cubin),)
    ]
    refused = [row for row in found if isinstance(row, str)]
    return filled(
        TARGET, target=target, schedules=loops, unscheduled=reasons, code=code + refused, columns=COLUMNS
    )


def filled(page: str, columns: tuple[str, ...], **parts: Any) -> str:
    joined = {k: v if isinstance(v, str) else "\n".join(v) for k, v in parts.items()}
    return page.format(columns=" | ".join(columns), rules="|".join("---" for _ in columns), **joined)


def beside() -> Iterator[str]:
    """Rows of ours and of Triton's machine code; of the latter none where it is not installed."""
    there = importlib.util.find_spec("triton") is not None
    for name, case in BESIDE_TRITON.items():
        m = made(name, case.kernel, case.signature, case.constants, HOPPER)
        yield from loops(name, f"tilec | {m.spilled}", m.assembled.cubin)
        if there:
            from tilec.bench_compile.once import tritons

            yield from loops(name, "Triton | -", tritons(name, "cubin")())  # type: ignore[arg-type]


def loops(name: str, maker: str, cubin: bytes) -> Iterator[str]:
    """A row for each loop; of a kernel without one, a row of all."""
    code = listing(cubin)
    found = code.product_loops()
    for number, loop in enumerate(found or [code.code], 1):
        which = f"{number} of {len(found)}" if found else "-"
        yield f"| {name} | {maker} | {len(code.code)} | {which} | {shown(loop)} |"


def main(folder: Path = ROOT / "docs") -> None:
    os.environ["TILEC_CACHE_DIR"] = tempfile.mkdtemp()
    there = importlib.util.find_spec("triton") is not None
    text = filled(
        PAGE,
        target=HOPPER,
        ptxas=toolchain.tool_version(toolchain.need("ptxas")),
        triton=importlib.metadata.version("triton") if there else "(not installed)",
        beside=list(beside()),
        targets=[section(target) for target in TARGETS],
        columns=COLUMNS,
    )
    (folder / "evidence.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
