"""The verb `emulate`: run PTX from anywhere on the emulator."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tilec.cli_arguments import GRAMMAR, parse_argument
from tilec.cli_parts import CHECK_FAILED, format_option, spinner

if TYPE_CHECKING:
    from tilec.runtime.emulator.report import Report

_file = click.Path(path_type=Path)


def _dim(ctx: click.Context, param: click.Parameter, value: str) -> tuple[int, ...]:
    """Up to three extents: 4, 4,2 or 4x2x1."""
    parts = value.replace("x", ",").split(",")
    if len(parts) > 3 or not all(p.strip().isdigit() and int(p) for p in parts):
        raise click.BadParameter(f"{value!r} is not one to three positive numbers", ctx, param)
    return tuple(int(p) for p in parts)


_extents: dict[str, Any] = {"callback": _dim, "metavar": "x[,y[,z]]"}
_EPILOG = (
    '\b\nExample: tilec emulate copy.ptx --grid 2 --block 64 --args "f32[128]:random f32[128]" --mode lazy\n'
    "\b\nARGUMENTS:\n" + GRAMMAR
)


@click.command(epilog=_EPILOG)
@click.argument("ptx", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--entry", default="", help="The kernel; may be left out where the file has one.")
@click.option("--grid", **_extents, default="1", show_default=True, help="CTAs.")
@click.option("--block", **_extents, required=True, help="Threads of a CTA.")
@click.option("--cluster", **_extents, default="1", show_default=True, help="CTAs of a cluster.")
@click.option("--smem", default=0, help="Dynamic shared memory in bytes.")
@click.option(
    "--args", "texts", multiple=True, metavar="ARGUMENTS", help="The parameters, divided by blanks."
)
@click.option("--mode", type=click.Choice(["eager", "lazy", "random"]), default="eager", show_default=True)
@click.option("--seed", default=0, help="For the mode random, and for random arrays.")
@click.option("--exact", is_flag=True, help="Cut the sums of tensor cores as the hardware does.")
@click.option("--strict", is_flag=True, help="Stop at the first hazard.")
@click.option("--trace", type=_file, help="Write what ran when, for ui.perfetto.dev.")
@click.option("--steps", is_flag=True, help="Print every instruction as it runs.")
@click.option("--traffic", is_flag=True, help="Print bank conflicts and sectors of loads and stores.")
@click.option("-o", "--output", type=_file, help="Folder for the arrays, as they are afterwards.")
@format_option
def emulate(ptx: Path, texts: tuple[str, ...], format_: str, **options: Any) -> None:
    """Run a kernel of a PTX file without a GPU and report its hazards.

    Prints what it printed, its reports, and a line for each array. Exit code 4: a
    report is an error.
    """
    from tilec.runtime.emulator.trace import Trace

    seed = options["seed"]
    args = [parse_argument(t, seed + i) for i, t in enumerate(" ".join(texts).split())]
    trace = Trace() if options["trace"] or options["steps"] else None
    reports, done = _run(ptx, args, trace, options)
    if options["trace"] and trace:
        _write(options["trace"], trace.json())
    if options["steps"] and trace:
        for step, who, line, text in trace.steps:
            click.echo(f"{step:>7} {who}, PTX line {line}: {text}")
    files = _save(options["output"], args) if options["output"] else []
    click.echo(
        _json(done, reports, args, files) if format_ == "json" else _text(done, reports, args, options)
    )
    if any(r.code[0] != "W" for r in reports):
        sys.exit(CHECK_FAILED)


def _run(ptx: Path, args: list[Any], trace: Any, options: dict[str, Any]) -> tuple[list[Report], Any]:
    """The reports, and the outcome or the error that stopped the run."""
    from tilec.ir.errors import DeadlockError, RaceError
    from tilec.ir.loc import UNKNOWN
    from tilec.runtime.emulator.report import EmulatorError, Report
    from tilec.testing import run_once

    mode = f"random:{options['seed']}" if options["mode"] == "random" else options["mode"]
    named = {k: options[k] for k in ("cluster", "smem", "exact", "strict")}
    try:
        with spinner(f"emulating {ptx.name}"):
            outcome = run_once(ptx, options["entry"], options["grid"], options["block"], args, mode=mode,
                               trace=trace, **named)  # fmt: skip
    except (EmulatorError, DeadlockError, RaceError) as error:
        before = list(getattr(error, "reports", ()))
        return [*before, Report(error.code, error.message, 0, error.loc or UNKNOWN)], error
    return list(outcome.reports), outcome


def _save(folder: Path, args: list[Any]) -> list[str]:
    import numpy as np

    paths = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for i, array in _arrays(args):
            path = folder / f"arg{i}.npy"
            np.save(path, array)
            paths.append(str(path))
    except OSError as error:
        raise click.ClickException(f"cannot write to {folder}: {error.strerror}") from None
    return paths


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise click.ClickException(f"cannot write {path}: {error.strerror}") from None


def _arrays(args: list[Any]) -> list[tuple[int, Any]]:
    import numpy as np

    held = [(i, getattr(a, "array", a)) for i, a in enumerate(args)]
    return [(i, a) for i, a in held if isinstance(a, np.ndarray)]


def _text(done: Any, reports: list[Report], args: list[Any], options: dict[str, Any]) -> str:
    lines = [done.printed.rstrip("\n")] if getattr(done, "printed", "") else []
    lines += [str(r) if r.line else f"{r.code}: {r.message}" for r in reports]
    lines += [_summary(i, a) for i, a in _arrays(args)]
    if options["traffic"]:
        lines += [
            f"PTX line {t.line}, {t.memory} memory: {t.transactions} transactions where {t.ideal} would do"
            for t in getattr(done, "traffic", ())
        ]
    steps = getattr(done, "steps", None)
    lines.append(f"{steps} instructions, {len(reports)} reports" if steps is not None else "stopped")
    return "\n".join(lines)


def _summary(index: int, array: Any) -> str:
    import numpy as np

    flat = np.asarray(array, np.float64).ravel()
    shown = ", ".join(f"{x:g}" for x in flat[:4]) + (", ..." if flat.size > 4 else "")
    size = "x".join(map(str, array.shape))
    return f"argument {index}: {array.dtype}[{size}] = {shown} (sum {flat.sum():g})"


def _json(done: Any, reports: list[Report], args: list[Any], files: list[str]) -> str:
    return json.dumps({
        "reports": [{"code": r.code, "message": r.message, "line": r.line} for r in reports],
        "steps": getattr(done, "steps", None), "printed": getattr(done, "printed", ""), "files": files,
        "finished": hasattr(done, "steps"),
    })  # fmt: skip
