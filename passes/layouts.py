"""Give every register tile a layout, and insert `convert_layout` where two disagree.

`Chooser` picks layouts forward from the anchors; `Demands` runs backward from the uses;
then the program is copied here: flexible values once for each layout that is asked for,
all others once, followed by their conversions. Ranges are made again in loops and after them.
"""

from __future__ import annotations

from collections.abc import Sequence

from tilec.ir.core import Block, Kernel, Op, Value, frozen
from tilec.ir.errors import InternalError
from tilec.ir.layout import Layout
from tilec.ir.loc import UNKNOWN, Loc
from tilec.ir.types import TileType
from tilec.passes.layout_choice import Chooser
from tilec.passes.layout_demand import Demands, Needs, is_flexible, yield_targets
from tilec.passes.layout_rules import is_tile, tile_type
from tilec.passes.remake import remade


def assign_layouts(kernel: Kernel) -> Kernel:
    """SCHEDULED -> SCHEDULED in which the type of every register tile of rank > 0 has a layout."""
    return remade(_Copy(Demands(Chooser(kernel), kernel.body)).kernel(kernel))


class _Copy:
    """``env`` gives the new value for an old one in a layout (None: scalars, shared memory, ...)."""

    def __init__(self, demands: Demands) -> None:
        self.demands = demands
        self.env: dict[tuple[Value, Layout | None], Value] = {}

    def kernel(self, kernel: Kernel) -> Kernel:
        self.env.update({(p, None): p for p in kernel.params})
        yielded = kernel.body.yielded
        return kernel.with_(body=self.block(kernel.body, (None,) * len(yielded), None))

    def block(self, block: Block, leaving: Needs, owner: Op | None) -> Block:
        params = tuple(self.define(p, self.final(p, owner)) for p in block.params)
        ops = [c for p in block.params for c in self.conversions(p, owner, UNKNOWN)]
        for op in block.ops:
            if op.name == "yield":
                ops.append(op.with_(args=self.get(op.args, leaving)))
            else:
                ops += self.op(op)
        return Block(params, tuple(ops))

    def op(self, op: Op) -> list[Op]:
        copies = [self.copy(op, layout) for layout in self.demands.emitted(op)]
        if not copies:
            return []
        return copies + [c for r in op.results for c in self.conversions(r, op, op.loc)]

    def copy(self, op: Op, layout: Layout | None) -> Op:
        args = self.get(op.args, self.demands.needs(op, layout))
        targets = yield_targets(op)
        blocks = tuple(
            self.block(b, self.demands.leaving(b.yielded, t, op), op)
            for b, t in zip(op.blocks, targets, strict=True)
        )
        results = tuple(self.define(r, layout if is_flexible(op) else self.final(r, op)) for r in op.results)
        return Op(op.name, args, op.attrs, results, blocks, op.loc)

    def final(self, value: Value, op: Op | None) -> Layout | None:
        """The layout in which a value is made (of a flexible one, the first of them)."""
        if not is_tile(value) or op is None:
            return None
        wanted = list(self.demands.wanted.get(value, ()))
        return wanted[0] if wanted and value not in self.demands.choice else self.demands.own(value, op)

    def define(self, old: Value, layout: Layout | None) -> Value:
        t = old.type.with_(layout=layout) if isinstance(old.type, TileType) else old.type
        new = self.env[old, layout] = Value(t, old.hint)
        return new

    def get(self, values: Sequence[Value], layouts: Needs) -> tuple[Value, ...]:
        return tuple(self._get(v, layout) for v, layout in zip(values, layouts, strict=True))

    def _get(self, value: Value, layout: Layout | None) -> Value:
        found = self.env.get((value, layout))
        if found is None:
            raise InternalError("X126", f"{value.hint or 'a value'}: {value.type} is missing in {layout}")
        return found

    def conversions(self, value: Value, op: Op | None, loc: Loc) -> list[Op]:
        """Conversions of a new value to the other layouts that are asked for."""
        made = []
        for layout in self.demands.wanted.get(value, ()):
            if (value, layout) in self.env:
                continue
            (source,) = self.get((value,), (self.final(value, op),))
            t = tile_type(source).with_(layout=layout, space="reg")
            new = self.env[value, layout] = Value(t, value.hint)
            made.append(Op("convert_layout", (source,), frozen(layout=layout), (new,), (), loc))
        return made
