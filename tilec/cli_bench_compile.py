"""The verb `bench compile`."""

from __future__ import annotations

import json

import click

from tilec.cli_parts import format_option, spinner


@click.command("compile", epilog="Example: tilec bench compile --repeat 3")
@format_option
@click.option("--repeat", default=5, show_default=True, type=click.IntRange(1), help="Compilations of each.")
def bench_compile(format_: str, repeat: int) -> None:
    """Time cold compilations of six kernels to PTX and to machine code, beside Triton's.

    Each runs in a process of its own, after imports, with empty caches; ours and Triton's take
    turns, and figures are medians. Triton is left out where it is not installed, machine code
    where there is no ptxas (pip install 'tilec[test]').
    """
    from tilec.bench_compile.table import lines, run, summary

    with spinner("compiling"):
        rows = run(repeat)
    if format_ == "json":
        click.echo(json.dumps(summary(rows), indent=1))
    else:
        click.echo("\n".join(lines(rows)))
