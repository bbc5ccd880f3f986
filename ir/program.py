"""A kernel indexed for rules: where each op stands, who uses a ring, what a fault is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from tilec.ir.core import Block, Kernel, Op, Value

MAIN = "main"


@dataclass(frozen=True, eq=False)
class Site:
    """An op in its place. ``position`` counts in program order, outer ops first."""

    op: Op
    block: Block
    position: int
    group: str


@dataclass(frozen=True)
class Fault:
    """A broken rule: its code, the guilty op (None: the kernel itself) and a sentence."""

    code: str
    op: Op | None
    message: str


@dataclass(frozen=True, eq=False)
class Program:
    """A kernel and its sites; the group is "main" outside of warp_groups."""

    kernel: Kernel
    sites: list[Site] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sites", [])
        self._visit(self.kernel.body, MAIN)

    def _visit(self, block: Block, group: str) -> None:
        for op in block.ops:
            self.sites.append(Site(op, block, len(self.sites), group))
            names = op.attrs.get("names", ()) if op.name == "warp_groups" else ()
            for i, inner in enumerate(op.blocks):
                self._visit(inner, names[i] if i < len(names) else group)

    @property
    def ops(self) -> Iterator[Op]:
        """All ops in program order."""
        return (site.op for site in self.sites)

    def blocks(self) -> Iterator[tuple[Op | None, Block]]:
        """All blocks with the op that owns them (None: the kernel)."""
        yield None, self.kernel.body
        for op in self.ops:
            for block in op.blocks:
                yield op, block

    def definitions(self) -> Iterator[tuple[Op | None, Value]]:
        """All values with the op that makes them or owns their block."""
        for param in self.kernel.params:
            yield None, param
        for owner, block in self.blocks():
            for param in block.params:
                yield owner, param
        for op in self.ops:
            for result in op.results:
                yield op, result

    def rings(self) -> Iterator[tuple[Op, dict[str, list[Site]]]]:
        """For every aref.new the sites of its puts, gets and releases, by op name."""
        uses: dict[Value, dict[str, list[Site]]] = {}
        for site in self.sites:
            if site.op.name.startswith("aref.") and site.op.args:
                uses.setdefault(site.op.args[0], {}).setdefault(site.op.name, []).append(site)
        for op in self.ops:
            if op.name == "aref.new":
                yield op, uses.get(op.results[0], {})

    def whereabouts(self, value: Value) -> str:
        """Why a value is not in scope, as the end of a sentence."""
        home = next((s for s in self.sites if value in s.op.results), None)
        if home is not None:
            place = f" in group {home.group}" if home.group != MAIN else ""
            return f"is defined by {home.op.name}{place}, which is later or in a block not around it"
        known = any(value is found for _, found in self.definitions())
        return "is a parameter of a block not around it" if known else "is defined nowhere"
