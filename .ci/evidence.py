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

## In short

Instructions and stalls of the main loop of ours and of Triton {triton} on {target}, at the same tiles, and
how many of Triton's stalls ours takes. The main loop is, of the loops with most products, one that handles
no edge: of those of at most a tenth more instructions than the shortest, the slowest. Kernels without
products, at the end, count whole: without padding, and without functions that are called for rare
operands, as in exact division. Extents are multiples of 16 bytes for both; of the numbers that Triton is
given all are multiples of 16. An instruction of ours may do another amount of work: TMA copies a tile, and
loads of Triton's loops are their own; of ours another group of warps does them.

| kernel | tilec: instructions | stalls | Triton: instructions | stalls | stalls of ours / Triton's |
|---|---|---|---|---|---|
{short}

## Beside Triton

Each loop around products, and kernels without products as a whole. Triton's kernels are as its users write
them (`tilec/bench_compile/triton_*.py`); the emulator ran their PTX, and the results were right
(`tests/cli/test_triton_peers.py`). A turn of the loop is a step of K (64; 8 bits 128; tf32 32) or 128 keys.
Triton's keys are masked in every turn. Of ours, each compute group has a loop for tiles that the mask cannot
touch, nearly all of them, and one for those at its edge; head size 64 also has one for few turns.

| kernel | compiler | spilled bytes | all | loop | {columns} |
|---|---|---|---|---|{rules}|
{beside}
{targets}"""

TARGET = """
## Every kernel of the examples on {target}

At the tiles that the example names. Of extents nothing is known: where these are not multiples of 16 bytes,
accesses take a second version, which is counted too.

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


def section(target: str, found: Sequence[Made | str]) -> str:
    there = [m for m in found if isinstance(m, Made)]
    loops = [row for m in there for row in schedules(m)]
    reasons = [f"- {m.name}: {'; '.join(map(str, m.compiled.notes))}" for m in there if unplanned(m)]
    code = [
        f"| {m.name} | {m.assembled.registers} | {m.compiled.artifact.smem_bytes} | {m.spilled} | "
        f"{shown(code.product_loop() or code.body())} |"
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


@dataclass(frozen=True)
class Pair:
    """A kernel of ours and of Triton; the latter is None where Triton is not installed."""

    name: str
    spilled: int
    ours: sass.Listing
    tritons: sass.Listing | None

    @property
    def whole(self) -> bool:
        """Whether it has no products."""
        return not self.ours.product_loops()


def pairs(found: Sequence[Made | str]) -> Iterator[Pair]:
    """The kernels that both compile: those that are timed, then the examples."""
    there = importlib.util.find_spec("triton") is not None
    peers = tritons() if there else {}
    for name, case in BESIDE_TRITON.items():
        m = made(name, case.kernel, divisible(case.signature), case.constants, HOPPER)
        yield pair(m, peers.get(name))
    for m, (file, kernel, types, constants) in zip(found, OWN_TILES, strict=True):
        if not isinstance(m, Made) or m.name not in peers:
            continue
        if not listing(m.assembled.cubin).product_loops():
            signature = divisible(re.split(",(?! )", types))
            m = made(m.name, getattr(importlib.import_module(file), kernel), signature, constants, HOPPER)
        yield pair(m, peers.get(m.name))


def tritons() -> Mapping[str, Any]:
    """Triton's kernels by name."""
    from tilec.bench_compile.triton_examples import EXAMPLES
    from tilec.bench_compile.triton_kernels import BESIDE_TRITON as TIMED

    return {**TIMED, **EXAMPLES}


def pair(m: Made, peer: Any) -> Pair:
    theirs = None
    if peer is not None:
        from tilec.bench_compile.once import compiled

        theirs = listing(compiled(peer)().asm["cubin"])
    return Pair(m.name, m.spilled, listing(m.assembled.cubin), theirs)


def divisible(signature: Sequence[str]) -> list[str]:
    """Types of tensors whose rows are whole multiples of 16 bytes."""
    return [x.replace("]", ", divisible]") for x in signature]


def loops(name: str, maker: str, code: sass.Listing) -> Iterator[str]:
    """A row for each loop; of a kernel without one, a row of all."""
    found = code.product_loops()
    for number, loop in enumerate(found or [code.body()], 1):
        which = f"{number} of {len(found)}" if found else "-"
        yield f"| {name} | {maker} | {len(code.code)} | {which} | {shown(loop)} |"


def beside(found: Sequence[Pair]) -> Iterator[str]:
    for p in found:
        yield from loops(p.name, f"tilec | {p.spilled}", p.ours)
        if p.tritons is not None:
            yield from loops(p.name, "Triton | -", p.tritons)


def short(found: Sequence[Pair]) -> Iterator[str]:
    """A row for each kernel that both have, those with products first."""
    for p in sorted(found, key=lambda p: p.whole):
        if p.tritons is not None:
            a, b = (sass.counts(code.main_loop() or code.body()) for code in (p.ours, p.tritons))
            numbers = (a["instructions"], a["stalls"], b["instructions"], b["stalls"])
            yield f"| {p.name} | {' | '.join(map(str, numbers))} | {a['stalls'] / b['stalls']:.2f} |"


def main(folder: Path = ROOT / "docs") -> None:
    os.environ["TILEC_CACHE_DIR"] = tempfile.mkdtemp()
    there = importlib.util.find_spec("triton") is not None
    made_for = {target: list(examples(target)) for target in TARGETS}
    both = list(pairs(made_for[HOPPER]))
    text = filled(
        PAGE,
        target=HOPPER,
        ptxas=toolchain.tool_version(toolchain.need("ptxas")),
        triton=importlib.metadata.version("triton") if there else "(not installed)",
        short=list(short(both)),
        beside=list(beside(both)),
        targets=[section(target, found) for target, found in made_for.items()],
        columns=COLUMNS,
    )
    (folder / "evidence.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
