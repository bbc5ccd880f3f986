"""The verbs `diff` and `completion`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from tilec.cli_loops import write
from tilec.cli_parts import (
    CHECK_FAILED,
    define_option,
    format_option,
    signature_option,
    spinner,
    table,
    target_option,
)
from tilec.cli_report import Reports

_file = click.Path(path_type=Path)


@click.command(
    epilog="Example: tilec diff examples/attention.py:attention examples/attention.py:attention "
    '--signature "f16[4],f16[4],f16[4],f16[4]" --second D=128 --html both.html'
)
@click.argument("first", metavar="FIRST")
@click.argument("second", metavar="SECOND")
@signature_option
@define_option
@click.option("--second", "more", multiple=True, metavar="NAME=VALUE", help="A constexpr of SECOND only.")
@click.option("--second-target", "other", metavar="TARGET", help="The target of SECOND, if it is another.")
@target_option
@click.option("--html", type=_file, help="Write both on one page.")
@click.option("--check", is_flag=True, help="Exit code 4 if a loop's interval has grown.")
@format_option
def diff(
    first: str, second: str, signature: str | None, defines: Sequence[str], more: Sequence[str],
    other: str | None, target: str, html: Path | None, check: bool, format_: str,
) -> None:  # fmt: skip
    """Say what differs between two compilations: intervals, rings, groups, orders, sizes.

    FIRST and SECOND are FILE:KERNEL, PROBLEM.json, or what `tilec report --format json` wrote.
    """
    from tilec.report.compare import differences, grown
    from tilec.report.data import Ask
    from tilec.report.page import page

    with spinner("solving"):
        a = Reports(signature, target, defines, Ask()).document(first)
        b = Reports(signature, other or target, (*defines, *more), Ask()).document(second)
    rows, worse = differences(a, b), grown(a, b)
    if html:
        write(html, page([a, b], _named(first, second), rows).rstrip("\n"))
    if format_ == "json":
        click.echo(json.dumps({"differences": [list(r) for r in rows], "grown": worse}))
    elif rows:
        table(("what", "-", "+"), rows)
    else:
        click.echo("no difference")
    if check and worse:
        sys.exit(CHECK_FAILED)


def _named(first: str, second: str) -> tuple[str, str]:
    """Two names that differ."""
    a, b = Path(first).name, Path(second).name
    return (a, b) if a != b else (f"first {a}", f"second {b}")


@click.command(epilog="Example: tilec completion bash >> ~/.bashrc")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes a shell complete the verbs and options of tilec."""
    from click.shell_completion import get_completion_class

    made = get_completion_class(shell)
    root = click.get_current_context().find_root().command
    if made is None:
        raise click.UsageError(f"no completion for {shell}")
    click.echo(made(root, {}, "tilec", "_TILEC_COMPLETE").source())
