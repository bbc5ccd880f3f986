"""What all verbs of the command line share: exit codes, options, a spinner."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import click

WRONG, USAGE, NO_PROOF, CHECK_FAILED = 1, 2, 3, 4

format_option = click.option("--format", "format_", type=click.Choice(["text", "json"]), default="text",
                             show_default=True, help="What to print.")  # fmt: skip
target_option = click.option(
    "--target", default="sm_90a", show_default=True, help="cpu, sm_80, sm_86, sm_89, sm_90a or sm_120a."
)
signature_option = click.option("--signature", help="Types of the run-time arguments: 'f16[2],f16[2],i32'.")
define_option = click.option(
    "-D", "defines", multiple=True, metavar="NAME=VALUE", help="A constexpr argument."
)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on a terminal; in a pipe a line for the first column, then the others below it."""
    if not sys.stdout.isatty():
        for first, *rest in rows:
            click.echo(
                "\n".join([first, *(f"  {name} {x}" for name, x in zip(heads[1:], rest, strict=True))])
            )
        return
    from rich.console import Console
    from rich.table import Table

    made = Table(*heads, show_edge=False)
    for row in rows:
        made.add_row(*row)
    Console().print(made)


@contextmanager
def spinner(what: str) -> Iterator[None]:
    """Show that something runs, on a terminal; nothing in a pipe."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(what):
        yield
