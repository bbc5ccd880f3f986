"""The command line: `tilec` and `python -m tilec`."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from tilec.cli_bench import bench
from tilec.cli_bench_compile import bench_compile
from tilec.cli_check import check
from tilec.cli_diff import completion, diff
from tilec.cli_emulate import emulate
from tilec.cli_parts import (
    CHECK_FAILED,
    NO_PROOF,
    WRONG,
    define_option,
    format_option,
    signature_option,
    spinner,
    target_option,
)
from tilec.cli_report import report
from tilec.cli_schedule import explain, schedule, verify
from tilec.explain_error import explain_error
from tilec.ir.errors import InfeasibleError, SolverUnknownError, TilecError


class _Group(click.Group):
    """A group whose verbs print a TilecError without a traceback and give its exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except TilecError as error:
            click.echo(str(error), err=True)
            ctx.exit(exit_code(error))


def exit_code(error: TilecError) -> int:
    """3 where constraints conflict or the solver gave up, else 1."""
    return NO_PROOF if isinstance(error, InfeasibleError | SolverUnknownError) else WRONG


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tilec")
def main() -> None:
    """A tile compiler: Python kernels to Hopper PTX and to the CPU.

    Exit codes: 0 fine, 1 the program is wrong, 2 usage, 3 infeasible or not
    proven within the budget, 4 a check failed.
    """


@main.command(
    epilog='Example: tilec compile examples/gemm.py:gemm --signature "f16[2],f16[2],f16[2]" -D BK=32 -o out'
)
@click.argument("spec", metavar="FILE:KERNEL")
@target_option
@signature_option
@define_option
@format_option
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder to write to.")
def compile(
    spec: str, target: str, signature: str | None, defines: Sequence[str], format_: str, output: Path
) -> None:
    """Write every stage of a kernel's compilation into a folder."""
    from tilec.compiled import write_stages

    with spinner(f"compiling {spec} for {target}"):
        compiled = _compile(spec, target, signature, defines)
        try:
            paths = write_stages(compiled, output)
        except OSError as error:
            raise click.ClickException(f"cannot write to {output}: {error.strerror}") from None
    if format_ == "json":
        click.echo(
            json.dumps({"files": [str(p) for p in paths], "log": compiled.log, "notes": compiled.notes})
        )
        return
    for line in (*compiled.log, *compiled.notes, *(f"wrote {p}" for p in paths)):
        click.echo(line)


@main.command(epilog='Example: tilec ir examples/softmax.py:softmax --signature "f32[2],f32[2]" --stage ptx')
@click.argument("spec", metavar="FILE:KERNEL")
@click.option("--stage", default="tile", show_default=True, help="tile, aref, scheduled, ptx, sass or llvm.")
@click.option("--target", help="Default: cpu for the stage llvm, else sm_90a.")
@signature_option
@define_option
def ir(spec: str, stage: str, target: str | None, signature: str | None, defines: Sequence[str]) -> None:
    """Print one stage of a kernel; FILE may also be a .tile file."""
    target = target or ("cpu" if stage == "llvm" else "sm_90a")
    with spinner(f"compiling {spec} for {target}"):
        text = _stage(spec, stage, target, signature, defines)
    click.echo(text, nl=not text.endswith("\n"))


@main.command(epilog="Example: tilec run examples/softmax.py --backend cpu -D BN=2048")
@click.argument("spec", metavar="FILE[:KERNEL]")
@click.option(
    "--backend", type=click.Choice(["cpu", "cuda", "emulator", "interpreter"]), help="Where to run."
)
@define_option
def run(spec: str, backend: str | None, defines: Sequence[str]) -> None:
    """Run a file's own main(): for the examples, check against float64 and time.

    main() gets the keywords kernel, backend and meta, those of them that it takes.
    """
    from tilec.load import load_module, parse_defines, split_spec

    path, kernel = split_spec(spec)
    entry = getattr(load_module(path), "main", None)
    if not callable(entry):
        raise click.UsageError(f"{path} has no function main()")
    asked = {"kernel": kernel, "backend": backend, "meta": dict(parse_defines(defines))}
    if entry(**_accepted(entry, {k: v for k, v in asked.items() if v})):
        sys.exit(CHECK_FAILED)


@main.command(epilog="Example: tilec doctor --format json")
@format_option
def doctor(format_: str) -> None:
    """Say what this machine has: packages, CPU, solver, assembler, GPU, cache."""
    from tilec.doctor import examine

    with spinner("looking around"):
        findings = examine()
    if format_ == "json":
        click.echo(json.dumps({f.name: {"value": f.value, "ok": f.ok} for f in findings}))
    else:
        for f in findings:
            click.echo(f"{'bad' if f.ok is False else 'ok ' if f.ok else '-  '} {f.name:<12} {f.value}")
    sys.exit(WRONG if any(f.ok is False for f in findings) else 0)


@main.group()
def cache() -> None:
    """The compile cache."""


@cache.command(epilog="Example: tilec cache info")
@format_option
def info(format_: str) -> None:
    """Where it is and how much it holds."""
    from tilec.driver import default_cache

    store = default_cache()
    usage = store.usage()
    if format_ == "json":
        click.echo(json.dumps({"folder": str(store.root), "entries": usage.entries, "bytes": usage.bytes}))
    else:
        click.echo(f"{store.root}: {usage.entries} entries, {usage.bytes} bytes")


@cache.command(epilog="Example: tilec cache clear")
def clear() -> None:
    """Remove every entry."""
    from tilec.driver import default_cache

    usage = default_cache().clear()
    click.echo(f"removed {usage.entries} entries, {usage.bytes} bytes")


def _compile(spec: str, target: str, signature: str | None, defines: Sequence[str]) -> Any:
    from tilec.driver import compile as compile_kernel
    from tilec.load import load_kernel

    return compile_kernel(load_kernel(spec, signature, defines), target)


def _stage(spec: str, stage: str, target: str, signature: str | None, defines: Sequence[str]) -> str:
    """A form needs the passes only, so it can be printed where a backend refuses the kernel."""
    from tilec.driver import lowered, parse_target
    from tilec.ir.forms import FORMS
    from tilec.ir.text import print_kernel
    from tilec.load import load_kernel

    target = parse_target(target)
    texts = (*FORMS, *(("llvm",) if target == "cpu" else ("ptx", "sass")))
    if stage not in texts:
        raise click.UsageError(f"{target} has no stage {stage!r}; it has {', '.join(texts)}")
    if stage in FORMS:
        return print_kernel(getattr(lowered(load_kernel(spec, signature, defines), target), stage))
    return str(_compile(spec, target, signature, defines).asm[stage])


def _accepted(function: Any, keywords: dict[str, Any]) -> dict[str, Any]:
    """The keywords that a function takes; asking for one that it does not take is an error."""
    parameters = inspect.signature(function).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return keywords
    refused = [k for k in keywords if k not in parameters]
    if refused:
        raise click.UsageError(f"the file's main() takes no {', '.join(refused)}")
    return keywords


bench.add_command(bench_compile)
for verb in (bench, schedule, verify, explain, report, diff, check, emulate, explain_error, completion):
    main.add_command(verb)
