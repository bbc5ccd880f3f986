"""The verb `tilec bench`."""

from __future__ import annotations

import json
import sys
import time

import click

from tilec.cli_parts import CHECK_FAILED, format_option


@click.group()
def bench() -> None:
    """Time kernels beside other libraries, on this machine."""


@bench.command(epilog="Example: tilec bench cpu --quick")
@format_option
@click.option("--only", default="", metavar="TEXT", help="Only works whose name contains this.")
@click.option("--samples", default=9, show_default=True, help="Measurements of each, in turns.")
@click.option("--quick", is_flag=True, help="Small works only: a test of the command, not of speed.")
@click.option(
    "--clock",
    type=click.Choice(["wall", "cpu"]),
    default="wall",
    show_default=True,
    help="cpu: CPU time of one thread, where others use the machine; set all three variables to 1.",
)
@click.option("--settle", default=0.2, show_default=True, help="Seconds of rest before each sample.")
@click.option("--check", is_flag=True, help=f"Exit with {CHECK_FAILED} if a target is missed.")
def cpu(format_: str, only: str, samples: int, quick: bool, clock: str, settle: float, check: bool) -> None:
    """Our CPU kernels beside numpy, torch and C: speeds, ratio, and the ratio that we want.

    Figures are medians of samples in turns. Before each sample of either side nothing runs for
    0.2 s, and then some calls are not timed: threads of a library look for work for up to 0.1 s
    after a call, on the cores that the other side needs. --settle 0 measures with this.
    Set TILEC_NUM_THREADS, OPENBLAS_NUM_THREADS and OMP_NUM_THREADS to compare on fewer cores.
    """
    from tilec.bench.rows import Row, run_all, table

    rows: list[Row] = []

    def told(row: Row) -> None:
        rows.append(row)
        if format_ == "text":
            click.echo(next(iter(table([row]))))

    timer = time.thread_time if clock == "cpu" else time.perf_counter
    found = run_all(only, samples, quick, told, timer, settle)
    if format_ == "json":
        click.echo(json.dumps(found))
    else:
        click.echo(f"a launch takes {found['launch_us']:.1f} us")
    if check and any(r.reached is False for r in rows):
        sys.exit(CHECK_FAILED)
