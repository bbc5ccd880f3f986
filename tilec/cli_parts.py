"""What all verbs of the command line share: exit codes, options, a spinner."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

WRONG, USAGE, INFEASIBLE, CHECK_FAILED, UNPROVEN = 1, 2, 3, 4, 5

format_option = click.option("--format", "format_", type=click.Choice(["text", "json"]), default="text",
                             show_default=True, help="What to print.")  # fmt: skip
target_option = click.option(
    "--target", default="sm_90a", show_default=True, help="cpu, sm_80, sm_86, sm_89, sm_90a or sm_120a."
)
signature_option = click.option("--signature", help="Types of the run-time arguments: 'f16[2],f16[2],i32'.")
define_option = click.option(
    "-D", "defines", multiple=True, metavar="NAME=VALUE", help="A constexpr argument."
)


@contextmanager
def spinner(what: str) -> Iterator[None]:
    """Show that something runs, on a terminal; nothing in a pipe."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(what):
        yield
