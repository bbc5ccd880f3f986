"""Whether warp groups take their turns in order, each turn once per round, on every path.

A group's place in a chain is the number of its steps (enter, exit, enter, ...) modulo those
of one round; each block of a loop must keep it, and both branches of an `if` must agree.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tilec.ir.core import Block, Op, walk
from tilec.ir.program import Fault, Program

TURNS = ("turn.enter", "turn.exit")
Step = tuple[str, int]
Rounds = Mapping[str, tuple[Step, ...]]
Places = dict[str, int]


def chains(program: Program) -> Iterator[Fault]:
    """All turns of a chain have one length of its round, and each belongs to one group."""
    lengths: dict[str, int] = {}
    owners: dict[tuple[str, int], str] = {}
    last: dict[str, Op] = {}
    for site in program.sites:
        if site.op.name not in TURNS:
            continue
        chain, index, of = (site.op.attrs[n] for n in ("chain", "index", "of"))
        last[chain] = site.op
        if lengths.setdefault(chain, of) != of:
            yield Fault("X241", site.op, f"a turn of {of} in a chain of {lengths[chain]}")
        owner = owners.setdefault((chain, index), site.group)
        if owner != site.group:
            yield Fault("X241", site.op, f"turn {index} of {chain} in groups {owner} and {site.group}")
    for chain, of in lengths.items():
        for index in (i for i in range(of) if (chain, i) not in owners):
            yield Fault("X241", last[chain], f"nobody takes turn {index} of {chain}")


def walk_turns(block: Block) -> list[Fault]:
    """The faults of one group: turns out of order, or not over where paths meet."""
    walker = _Walker(_rounds(block))
    end = walker.block(block, dict.fromkeys(walker.rounds, 0))
    walker.compare(None, "the group ends", end, dict.fromkeys(walker.rounds, 0))
    return walker.faults


def _rounds(block: Block) -> Rounds:
    own: dict[str, set[int]] = {}
    for op in walk(block):
        if op.name in TURNS:
            own.setdefault(op.attrs["chain"], set()).add(op.attrs["index"])
    return {c: tuple((name, i) for i in sorted(found) for name in TURNS) for c, found in own.items()}


class _Walker:
    def __init__(self, rounds: Rounds) -> None:
        self.rounds = rounds
        self.faults: list[Fault] = []
        self.last: dict[str, Op] = {}

    def block(self, block: Block, places: Places) -> Places:
        for op in block.ops:
            if op.name in TURNS:
                places = self.step(op, places)
            elif op.name in ("for", "while"):
                for inner in op.blocks:
                    self.compare(op, "a trip ends", self.block(inner, places), places)
            elif op.name == "if":
                then, other = (self.block(b, places) for b in op.blocks)
                self.compare(op, "a branch ends", then, other)
                places = then
        return places

    def step(self, op: Op, places: Places) -> Places:
        chain = op.attrs["chain"]
        round_, place = self.rounds[chain], places[chain]
        self.last[chain] = op
        if round_[place] != (op.name, op.attrs["index"]):
            name, index = round_[place]
            text = f"{op.name} of turn {op.attrs['index']} of {chain} where {name} of turn {index} is due"
            self.faults.append(Fault("X240", op, text))
        place = round_.index((op.name, op.attrs["index"]))
        return {**places, chain: (place + 1) % len(round_)}

    def compare(self, op: Op | None, where: str, found: Places, wanted: Places) -> None:
        for chain in (c for c in self.rounds if found[c] != wanted[c]):
            name, index = self.rounds[chain][found[chain]]
            text = f"{where} where {name} of turn {index} of {chain} is due, which another path does not owe"
            self.faults.append(Fault("X240", op or self.last[chain], text))
