"""The verb `report`, and what the command line makes reports of."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from tilec.cli_loops import gallery_option, read, write
from tilec.cli_parts import (
    define_option,
    format_option,
    signature_option,
    spinner,
    target_option,
)
from tilec.cli_schedule import NOTHING, judge

_file = click.Path(path_type=Path)


@dataclass(frozen=True)
class Reports:
    """What names a kernel on the command line, and what is asked about it."""

    signature: str | None
    target: str
    defines: Sequence[str]
    ask: Any

    def document(self, spec: str) -> dict[str, Any]:
        """The report of a kernel, of a problem in JSON, or one that was written before."""
        if spec.endswith(".json"):
            return self._written(read(Path(spec)))
        from tilec.driver import compile as compile_kernel
        from tilec.load import load_kernel
        from tilec.report.data import of_compiled

        return of_compiled(
            compile_kernel(load_kernel(spec, self.signature, self.defines), self.target), self.ask
        )

    def gallery(self, name: str) -> dict[str, Any]:
        from tilec.cli_loops import from_gallery

        return self._solved(from_gallery(name))

    def _written(self, text: str) -> dict[str, Any]:
        from tilec.passes.schedule.document import parse, problem_of
        from tilec.report.data import FORMAT

        data = parse(text)
        if isinstance(data, dict) and data.get("format") == FORMAT:
            return data
        return self._solved(problem_of(data))

    def _solved(self, problem: Any) -> dict[str, Any]:
        from tilec.passes.schedule.joint import check
        from tilec.passes.schedule.search import solve
        from tilec.report.data import of_problem

        answer = solve(problem)
        check(problem, answer)
        return of_problem(problem, answer, self.ask)


@click.command(
    epilog='Example: tilec report examples/gemm.py:gemm --signature "f16[2],f16[2],f16[2]" -o gemm.html'
)
@click.argument("spec", metavar="FILE:KERNEL|PROBLEM.json", required=False)
@gallery_option
@signature_option
@define_option
@target_option
@click.option("--again", is_flag=True, help="Solve again wherever a cost moves: slower, more to see.")
@click.option("--rlimit", type=click.IntRange(1), metavar="N", help="Budget of z3 for each question.")
@click.option("--trips", type=click.IntRange(1), help="Iterations of the loop, to predict a time.")
@click.option("--programs", type=click.IntRange(1), help="Programs of the launch, to predict a time.")
@click.option("--measured", type=click.FloatRange(0), metavar="SECONDS", help="A time that was measured.")
@click.option("--svg", type=_file, help="Write the Gantt chart as SVG.")
@click.option("--png", type=_file, help="Write the Gantt chart as PNG (needs tilec[png]).")
@click.option("--trace", type=_file, help="Write the plan for ui.perfetto.dev.")
@click.option("--beside", type=_file, help="With --trace: a trace of `tilec emulate` to lie beside the plan.")
@click.option("--schema", is_flag=True, help="Print the JSON Schema of a report and stop.")
@click.option("-o", "--output", type=_file, help="The page, or with --format json the document.")
@format_option
def report(
    spec: str | None, gallery: str | None, signature: str | None, defines: Sequence[str], target: str,
    format_: str, output: Path | None, schema: bool, **options: Any,
) -> None:  # fmt: skip
    """Write the schedule explorer: one HTML file that shows what a kernel does and what limits it.

    With --format json the document behind the page, on standard output unless -o is given.
    """
    if schema or gallery == "list":
        click.echo(_schema() if schema else _listed())
        return
    if (spec is None) == (gallery is None):
        raise click.UsageError("say what: FILE:KERNEL, PROBLEM.json or --gallery NAME")
    reports = Reports(signature, target, defines, _ask(options))
    with spinner("solving"):
        made = reports.gallery(gallery) if gallery else reports.document(str(spec))
    _export(made, options)
    if format_ == "json" and output is None:
        click.echo(_text(made))
        return
    path = output or Path(f"{_stem(made)}.html")
    write(path, _text(made) if format_ == "json" else _page(made))
    click.echo(_said(made, path))
    _judged(made)


def _ask(options: dict[str, Any]) -> Any:
    from tilec.report.data import RLIMIT, Ask

    if (options["trips"] is None) != (options["programs"] is None):
        raise click.UsageError("--trips and --programs belong together")
    return Ask(options["rlimit"] or RLIMIT, options["again"], options["trips"], options["programs"],
               options["measured"])  # fmt: skip


def _export(made: dict[str, Any], options: dict[str, Any]) -> None:
    """The chart and the trace of the first loop's chosen plan."""
    plans = [loop["plans"][0] for loop in made["loops"] if loop["plans"]]
    if not plans and (options["svg"] or options["png"] or options["trace"]):
        raise click.UsageError("no loop has a plan to draw")
    if options["svg"]:
        from tilec.report.svg import gantt

        write(options["svg"], gantt(plans[0]).rstrip("\n"))
    if options["png"]:
        from tilec.report.png import png
        from tilec.report.svg import gantt

        _write_bytes(options["png"], png(gantt(plans[0])))
    if options["trace"]:
        from tilec.report.trace import trace

        run = read(options["beside"]) if options["beside"] else ""
        warps = [count for _, count, _ in made["emitted"]]
        write(options["trace"], trace(plans[0], plans[0]["stages"] + 3, warps, run))


def _write_bytes(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise click.ClickException(f"cannot write to {path}: {error.strerror}") from None


def _judged(made: dict[str, Any]) -> None:
    """The exit codes of `tilec schedule`, after the page is written."""
    from tilec.passes.schedule.document import answer_of, problem_of

    for loop in made["loops"]:
        judge(problem_of(loop["problem"]), answer_of(loop["answer"]), 0.0)


def _stem(made: dict[str, Any]) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in made["name"])


def _said(made: dict[str, Any], path: Path) -> str:
    lines = [f"{loop['name']}: {loop['headline']}" for loop in made["loops"]] or [NOTHING]
    return "\n".join([*lines, f"wrote {path}"])


def _text(made: dict[str, Any]) -> str:
    return json.dumps(made, sort_keys=True, separators=(",", ":"))


def _page(made: dict[str, Any]) -> str:
    from tilec.report.page import page

    return page([made]).rstrip("\n")


def _schema() -> str:
    from tilec.report.schema import REPORT_SCHEMA

    return json.dumps(REPORT_SCHEMA, indent=1)


def _listed() -> str:
    from tilec.cli_loops import listed

    return listed()
