"""Which ops a value comes from, through loops and branches."""

from __future__ import annotations

from collections.abc import Iterable

from tilec.ir.core import Block, Op, Value, definitions, walk


class Reach:
    """The values of a block by what they are made from."""

    def __init__(self, body: Block) -> None:
        self.before: dict[Value, list[Value]] = {}
        self.defs: dict[Value, Op] = definitions(body)
        for op in walk(body):
            for n, result in enumerate(op.results):
                carried = list(op.args) if not op.blocks else _given(op, n)
                self.before.setdefault(result, []).extend(carried)
            for block in op.blocks if op.name in ("for", "while") else ():
                skip = len(block.params) - len(op.results)
                for n, param in enumerate(block.params[skip:]):
                    self.before.setdefault(param, []).extend(_given(op, n))

    def behind(self, values: Iterable[Value]) -> set[Op]:
        """The ops whose results reach the values: through what loops give, not through their bounds."""
        todo, seen = list(values), set[Value]()
        while todo:
            value = todo.pop()
            if value not in seen:
                seen.add(value)
                todo += self.before.get(value, [])
        return {self.defs[v] for v in seen if v in self.defs}


def _given(op: Op, n: int) -> list[Value]:
    """What result ``n`` of a loop or branch may be: what it starts with, and what is yielded for it."""
    yielded = [b.yielded[n] for b in (op.blocks if op.name == "if" else op.blocks[-1:])]
    first = len(op.args) - len(op.results)
    return yielded if op.name == "if" else [op.args[first + n], *yielded]


def steering(op: Op) -> tuple[Value, ...]:
    """What decides whether the blocks of a loop or branch run, and how often."""
    if op.name == "while":
        return op.blocks[0].yielded
    return op.args[:3] if op.name == "for" else op.args[:1]
