"""What several parts of the rows read from memory in a loop is read by each part for itself.

AREF -> AREF, for a kernel whose rows are split. A read takes long, so a plan starts it well before
the op that needs it; it has a place of its own in a group's program then, and each part has its group.
Attention backward reads the log-sum-exp of a block of queries for all parts of the keys.
"""

from __future__ import annotations

from tilec.ir.core import Block, Kernel, Op, Value, frozen, uses
from tilec.ir.ops import attr, opdef, written_tensors
from tilec.passes.schedule.reach import Reach

Key = int | None  # a part; None: none, or several


def own_loads(kernel: Kernel) -> Kernel:
    """The kernel with the loads and gathers of loops, and what is made of them alone, once for each part.

    Those that fill rings stay: a ring has all parts as consumers.
    """
    return kernel.with_(body=_Own(kernel).block(kernel.body, False))


class _Own:
    def __init__(self, kernel: Kernel) -> None:
        self.reach, self.users = Reach(kernel.body), uses(kernel.body)
        self.written = written_tensors(kernel.body)
        self.names: dict[tuple[Value, Key], Value] = {}

    def block(self, block: Block, inside: bool) -> Block:
        shared = self._shared(block) if inside else {}
        out: list[Op] = []
        for op in block.ops:
            looping = inside or op.name in ("for", "while")
            inner = op.with_(blocks=tuple(self.block(b, looping) for b in op.blocks)) if op.blocks else op
            keys = shared.get(op)
            out += [self._named(inner, self._key(op))] if keys is None else self._copies(op, keys)
        return Block(block.params, tuple(out))

    def _shared(self, block: Block) -> dict[Op, list[Key]]:
        """The ops that read memory, and those of what they read alone, with the parts that want them."""
        found: list[Op] = []
        for op in block.ops:
            if self._reads(op) or (self._is_made_of(op, found) and self._key(op) is None):
                found.append(op)
        wanted: dict[Op, list[Key]] = {}
        for op in reversed(found):
            users = [u for r in op.results for u in self.users.get(r, ())]
            keys = {k for u in users for k in wanted.get(u, [self._key(u)])}
            wanted[op] = sorted(keys, key=lambda k: -1 if k is None else k)
        return wanted

    def _reads(self, op: Op) -> bool:
        users = [u for r in op.results for u in self.users.get(r, ())]
        fills = any(u.name == "aref.put" for u in users)
        return op.name in ("load", "gather") and op.args[0] not in self.written and not fills

    def _is_made_of(self, op: Op, found: list[Op]) -> bool:
        pure = opdef(op.name).effect == "pure" and not op.blocks
        return pure and any(a in o.results for o in found for a in op.args)

    def _key(self, op: Op) -> Key:
        """The part that an op belongs to."""
        behind = {o for o in (op, *self.reach.behind(op.args)) if o.name == "dot"}
        parts = {attr(o, "part") for o in behind}
        return next(iter(parts)) if len(parts) == 1 and not op.blocks and op.name != "yield" else None

    def _named(self, op: Op, key: Key) -> Op:
        return op.with_(args=tuple(self.names.get((a, key), a) for a in op.args))

    def _copies(self, op: Op, keys: list[Key]) -> list[Op]:
        """The op itself for the first key, a copy for each other; reads say their part."""
        made = []
        for key in keys:
            results = op.results if key is keys[0] else tuple(Value(r.type, r.hint) for r in op.results)
            self.names.update({(old, key): new for old, new in zip(op.results, results, strict=True)})
            attrs = frozen(**{**op.attrs, "part": key}) if key is not None and self._reads(op) else op.attrs
            made.append(self._named(op, key).with_(results=results, attrs=attrs))
        return made
