"""The verb `check`: a kernel on small arrays, in all its forms and many timings."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import click

from tilec.cli_arguments import GRAMMAR, parse_argument
from tilec.cli_emulate import _dim
from tilec.cli_parts import CHECK_FAILED, define_option, format_option, spinner, target_option

_EPILOG = (
    "\b\nExample: tilec check examples/gemm.py:gemm --grid 2,1 -D BM=64 -D BN=32 -D BK=32\n"
    '  --args "f16[70,40]:normal f16[40,30]:normal f16[70,30]"\n\b\nARGUMENTS:\n' + GRAMMAR
)


@click.command(epilog=_EPILOG)
@click.argument("spec", metavar="FILE:KERNEL")
@click.option("--grid", callback=_dim, metavar="x[,y[,z]]", required=True, help="Program instances.")
@click.option("--args", "text", metavar="ARGUMENTS", required=True, help="The arguments, divided by blanks.")
@define_option
@target_option
@click.option("--runs", type=click.IntRange(1), default=8, show_default=True, help="Of each kind.")
@click.option("--seed", default=0, show_default=True, help="For random arrays.")
@click.option("--rtol", type=click.FloatRange(0), help="Judge values: allowed relative difference.")
@click.option("--atol", type=click.FloatRange(0), help="Judge values: allowed absolute difference.")
@format_option
def check(
    spec: str, grid: tuple[int, ...], text: str, defines: Sequence[str], target: str, runs: int, seed: int,
    rtol: float | None, atol: float | None, format_: str,
) -> None:  # fmt: skip
    """Compare a kernel's forms with its definition, on small arrays.

    The scheduled program must give the same bits in every interleaving, its PTX must run without a
    hazard in every timing. Values are judged with --rtol or --atol. Exit code 4 if a check failed.
    """
    from tilec.check import Bounds
    from tilec.check import check as findings

    values = [parse_argument(word, seed + i) for i, word in enumerate(text.split())]
    kernel, name = _traced(spec, values, defines), _target(target)
    with spinner(f"checking {spec}"):
        found = list(findings(kernel, name, grid, values, runs, Bounds(rtol, atol)))
    if format_ == "json":
        click.echo(json.dumps([asdict(f) for f in found]))
    else:
        click.echo("\n".join(f.text for f in found))
    if any(f.fault for f in found):
        sys.exit(CHECK_FAILED)


def _target(name: str) -> str:
    from tilec.driver import parse_target

    return parse_target(name)


def _traced(spec: str, values: list[Any], defines: Sequence[str]) -> Any:
    """The kernel for these very arrays, as a launch would trace it."""
    from tilec import signature as sig
    from tilec.load import kernels_of, load_module, parse_defines, split_spec

    path, name = split_spec(spec)
    found = kernels_of(load_module(path))
    if name not in found:
        raise click.UsageError(f"say which kernel: {path}:NAME; {path} has {', '.join(found) or 'none'}")
    kernel = found[name]
    if len(values) != len(kernel.runtime):
        names = ", ".join(p.name for p in kernel.runtime)
        raise click.UsageError(f"--args has {len(values)} arguments; {name} takes {names}")
    types = [sig.argument_type(p, v) for p, v in zip(kernel.runtime, values, strict=True)]
    return kernel.trace(types, **parse_defines(defines))
