"""The verbs `schedule`, `verify` and `explain`: loops as problems, solved, certified, explained."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tilec.cli_loops import Loops, about_loops, listed, one_or_all, read, write
from tilec.cli_parts import CHECK_FAILED, format_option, spinner
from tilec.ir.errors import InfeasibleError, SolverUnknownError

if TYPE_CHECKING:
    from tilec.passes.schedule.model import Answer, Problem

NOTHING = "no loop fills a ring: there is nothing to schedule"
_file = click.Path(path_type=Path)
_existing = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(epilog="Example: tilec schedule --gallery fa3 -o plan.json --certificate cert.json")
@about_loops
@click.option("-o", "--output", type=_file, help="Write the answer as JSON.")
@click.option("--certificate", "proof", type=_file, help="Write what `tilec verify` checks.")
@click.option("--problem", "given", type=_file, help="Write the problem as JSON.")
@click.option("--schema", is_flag=True, help="Print the JSON Schema of a problem and stop.")
def schedule(
    format_: str, output: Path | None, proof: Path | None, given: Path | None, schema: bool, **options: Any
) -> None:
    """Find the least interval of a loop, with proof, and the best plan of it.

    The loop is a problem in JSON (docs/schedule-json.md), each loop of a kernel that
    fills a ring, or one of the gallery.
    """
    if schema or options["gallery"] == "list":
        click.echo(_schema() if schema else listed())
        return
    from tilec.passes.schedule.document import canonical

    loops = Loops(**options)
    problems = loops.problems()
    if len(problems) != 1 and (proof or given):
        raise click.UsageError(f"there are {len(problems)} loops: a problem or certificate is of one")
    with spinner("scheduling"):
        answers = [loops.answer(p) for p in problems]
    text = canonical(_documents(problems, answers))
    if output:
        write(output, text)
    if given or proof:
        _write_proof(problems[0], answers[0], given, proof)
    click.echo(text if format_ == "json" else _plans(problems, answers))
    for problem, answer in zip(problems, answers, strict=True):
        judge(problem, answer, loops.give)


def _documents(problems: list[Problem], answers: list[Answer]) -> Any:
    """One answer, or the answers of all loops with their problems."""
    from tilec.passes.schedule.document import answer_data, problem_data

    pairs = list(zip(problems, answers, strict=True))
    if len(pairs) == 1:
        return answer_data(*pairs[0])
    return [{"problem": problem_data(p), "answer": answer_data(p, a)} for p, a in pairs]


def _write_proof(problem: Problem, answer: Answer, given: Path | None, proof: Path | None) -> None:
    """The problem, and the certificate of a plan."""
    from tilec.passes.schedule.certificate import certificate
    from tilec.passes.schedule.document import canonical, problem_data

    if given:
        write(given, canonical(problem_data(problem)))
    if proof and answer.schedule:
        write(proof, canonical(certificate(problem, answer)))


def _plans(problems: list[Problem], answers: list[Answer]) -> str:
    from tilec.passes.schedule.explain import explain as explained

    texts = [explained(p, a, core=False).to_text() for p, a in zip(problems, answers, strict=True)]
    return "\n\n".join(texts) or NOTHING


def judge(problem: Problem, answer: Answer, give: float) -> None:
    """Raise if there is no plan, or none that is proven to be within ``give`` of the least interval."""
    if answer.status == "infeasible":
        what = "no interval has a plan"
        if answer.conflicts:
            what = f"wishes that cannot be met: {', '.join(answer.conflicts)}"
        raise InfeasibleError("I501", f"{problem.name}: {what}", help="`tilec explain` says why")
    if answer.schedule is None or answer.schedule.ii > int(answer.bound.value * (1 + give)):
        best = "no plan was found" if answer.schedule is None else f"interval {answer.schedule.ii}"
        raise SolverUnknownError(
            "N501", f"{problem.name}: {best}; proven is only that none is below {answer.bound.value}",
            help="raise --rlimit",
        )  # fmt: skip


def _schema() -> str:
    from tilec.passes.schedule.schema import PROBLEM_SCHEMA

    return json.dumps(PROBLEM_SCHEMA, indent=1)


@click.command(epilog="Example: tilec verify cert.json --solver")
@click.argument("file", type=_existing, metavar="CERTIFICATE.json")
@click.option("--solver", is_flag=True, help="Also ask z3 again where it refuted a range of intervals.")
@format_option
def verify(file: Path, solver: bool, format_: str) -> None:
    """Check a certificate of `tilec schedule`: the plan, the bound, and what both rest on.

    Exit code 4 if it is refused.
    """
    from tilec.passes.schedule.certificate import verify as faults_of
    from tilec.passes.schedule.document import canonical, parse

    data = parse(read(file))
    with spinner("checking"):
        faults = faults_of(data, solver=solver)
    if format_ == "json":
        click.echo(canonical({"accepted": not faults, "faults": list(faults), "solver_asked": solver}))
    elif faults:
        click.echo("\n".join([*faults, f"{file}: refused"]))
    else:
        click.echo(f"{file}: accepted: {_checked(data['answer'], solver)}")
    if faults:
        sys.exit(CHECK_FAILED)


def _checked(answer: dict[str, Any], solver: bool) -> str:
    """What was checked, and how far."""
    bound = answer["bound"]
    how = "arithmetic"
    if bound["kind"] == "range":
        how = "z3, asked again" if solver else "the word of the solver (--solver asks again)"
    return f"a legal plan of interval {answer['schedule']['ii']}; none is below {bound['value']} by {how}"


@click.command(epilog="Example: tilec explain --gallery fa4-alias --what-if --baselines")
@about_loops
@click.option("--baselines", is_flag=True, help="Compare with published plans and simple schedulers.")
@click.option("--what-if", is_flag=True, help="Solve again with more and with less of each resource.")
@click.option("--sensitivity", is_flag=True, help="Move each cost by 20 %, keep the plan or solve again.")
@click.option("--fixed", is_flag=True, help="With --sensitivity: keep the plan, no solver.")
@click.option("--all", "everything", is_flag=True, help="All of these.")
@click.option("--map", "map_", metavar="NAME", help="A map over parameters of a loop; 'list' prints names.")
def explain(
    format_: str, baselines: bool, what_if: bool, sensitivity: bool, fixed: bool, everything: bool,
    map_: str | None, **options: Any,
) -> None:  # fmt: skip
    """Say why a loop's interval is not smaller, by op and source line.

    A unit that is always held, a recurrence, or the constraints that conflict; then each
    group's order, memory, registers and slack.
    """
    if map_ or options["gallery"] == "list":
        click.echo(_map(map_, format_) if map_ else listed())
        return
    from tilec.passes.schedule.document import canonical
    from tilec.passes.schedule.study import study

    loops = Loops(**options)
    flags = {"baselines": baselines, "what_if": what_if, "sensitivity": sensitivity}
    asked = [name for name, flag in flags.items() if flag or everything]
    with spinner("explaining"):
        found = [
            study(p, loops.answer(p), asked, resolve=not fixed, budget=loops.rlimit) for p in loops.problems()
        ]
    if format_ == "json":
        click.echo(canonical(one_or_all([s.to_json() for s in found])))
    else:
        click.echo("\n\n".join(s.to_text() for s in found) or NOTHING)


def _map(name: str, format_: str) -> str:
    from tilec.passes.schedule.document import canonical
    from tilec.passes.schedule.maps import MAPS

    if name == "list":
        return "\n".join(MAPS)
    if name not in MAPS:
        raise click.UsageError(f"there is no map {name!r}; known are {', '.join(MAPS)}")
    with spinner(f"map {name}"):
        found = MAPS[name]()
    return canonical(asdict(found)) if format_ == "json" else found.to_text()
