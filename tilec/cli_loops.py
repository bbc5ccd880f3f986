"""Which loop a verb is about, the options that say so, and its answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tilec.cli_parts import define_option, format_option, signature_option, target_option

if TYPE_CHECKING:
    from tilec.passes.schedule.model import Answer, Problem


def names_begun(ctx: click.Context, param: click.Parameter, begun: str) -> list[str]:
    """Names of the gallery, for shells that complete them."""
    from tilec.passes.schedule.loops import gallery

    return [name for name in ("list", *gallery) if name.startswith(begun)]


gallery_option = click.option(
    "--gallery", metavar="NAME", shell_complete=names_begun,
    help="A built-in loop instead; 'list' prints their names.",
)  # fmt: skip
OPTIONS = (
    click.argument("spec", metavar="PROBLEM.json|FILE:KERNEL", required=False),
    gallery_option,
    signature_option,
    define_option,
    target_option,
    click.option(
        "--objective", type=click.Choice(["fewest", "balanced"]), default="fewest", show_default=True,
        help="Of the plans of the least interval: fewest groups first, or even load of the groups first.",
    ),
    click.option(
        "--give", type=click.FloatRange(0, 1), default=0.0, show_default=True,
        help="How much more than the least interval the goals may take: 0.02 is 2 %.",
    ),
    click.option("--groups", type=click.IntRange(1, 64), help="Exactly so many groups, loads counted."),
    click.option("--stages", type=click.IntRange(1), help="Exactly so many slots of every ring."),
    click.option("--registers", type=click.IntRange(24), help="At most so many registers a thread."),
    click.option(
        "--costs", type=click.Choice(["raw", "normalized"]), default="raw", show_default=True,
        help="normalized: small costs in nearly the same proportions, as Twill's first step makes them.",
    ),
    click.option(
        "--rlimit", type=click.IntRange(1), metavar="N",
        help="Budget of z3 in its own units, which do not depend on the machine.",
    ),
    format_option,
)  # fmt: skip


def about_loops(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command all of OPTIONS."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


@dataclass(frozen=True)
class Loops:
    """The values of OPTIONS, by name."""

    spec: str | None
    gallery: str | None
    signature: str | None
    defines: Sequence[str]
    target: str
    objective: str
    give: float
    groups: int | None
    stages: int | None
    registers: int | None
    costs: str
    rlimit: int | None

    @property
    def budget(self) -> int:
        """What each question may cost."""
        from tilec.passes.schedule.search import RLIMIT

        return self.rlimit or RLIMIT

    def problems(self) -> list[Problem]:
        """The problem of a JSON file, of the gallery, or of each ring loop of a kernel, with the wishes."""
        from tilec.passes.schedule.normalize import normalize
        from tilec.passes.schedule.wishes import wished

        values = {"groups": self.groups, "stages": self.stages, "registers": self.registers}
        wishes = {kind: value for kind, value in values.items() if value is not None}
        found = self._found()
        if self.costs == "normalized":
            found = [normalize(p) for p in found]
        return [wished(p, wishes) for p in found]

    def _found(self) -> list[Problem]:
        if (self.spec is None) == (self.gallery is None):
            raise click.UsageError("say what: PROBLEM.json, FILE:KERNEL or --gallery NAME")
        if self.spec is None:
            return [from_gallery(str(self.gallery))]
        if self.spec.endswith(".json"):
            from tilec.passes.schedule.document import load_problem

            return [load_problem(read(Path(self.spec)))]
        return _from_kernel(self.spec, self.target, self.signature, self.defines)

    def answer(self, problem: Problem) -> Answer:
        """The solver's answer, judged by the checker."""
        from tilec.passes.schedule.joint import check
        from tilec.passes.schedule.search import solve

        found = solve(problem, self.objective, self.give, self.budget)
        check(problem, found)
        return found


def from_gallery(name: str) -> Problem:
    from tilec.passes.schedule.loops import gallery

    if name not in gallery:
        raise click.UsageError(f"there is no loop {name!r}; known are {', '.join(gallery)}")
    return gallery[name]()


def _from_kernel(spec: str, target: str, signature: str | None, defines: Sequence[str]) -> list[Problem]:
    """The loops as the passes see them."""
    from tilec.driver import lowered, parse_target
    from tilec.load import load_kernel

    return list(lowered(load_kernel(spec, signature, defines), parse_target(target)).problems)


def listed() -> str:
    """The gallery's names, one a line."""
    from tilec.passes.schedule.loops import gallery

    made = {name: make() for name, make in gallery.items()}
    return "\n".join(f"{name:<16} {p.name}, {len(p.ops)} ops" for name, p in made.items())


def one_or_all(items: Sequence[Any]) -> Any:
    """What JSON has for one loop, and for several."""
    return items[0] if len(items) == 1 else list(items)


def read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise click.UsageError(f"cannot read {path}: {error.strerror}") from None


def write(path: Path, text: str) -> None:
    try:
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise click.ClickException(f"cannot write to {path}: {error.strerror}") from None
