"""What Hopper adds to the rules of the PTX backend: rings, products, warp groups, the epilogue.

`Hopper` decides everything before emission (ring plans, staging buffers, stores by TMA)
and gives the table of rules; rules for ops that also have a plain form fall back to it.
"""

from __future__ import annotations

from collections.abc import Mapping

from tilec.backends.ptx import hopper_ring, hopper_turns
from tilec.backends.ptx.context import Emitter, Rule
from tilec.backends.ptx.hopper_cluster import extents, meet
from tilec.backends.ptx.hopper_dot import Products, prepare, staging
from tilec.backends.ptx.hopper_groups import run_groups
from tilec.backends.ptx.hopper_parts import in_parts, later
from tilec.backends.ptx.hopper_plan import plan_rings, sites
from tilec.backends.ptx.hopper_put import put
from tilec.backends.ptx.hopper_ring import Ring
from tilec.backends.ptx.hopper_rows import rows
from tilec.backends.ptx.hopper_section import plan_sections, section
from tilec.backends.ptx.hopper_smem import tile_bytes
from tilec.backends.ptx.hopper_store import StorePlan, drain, only_stored, staging_key, store, store_plan
from tilec.backends.ptx.hopper_tma import Pending, offsets
from tilec.backends.ptx.hopper_wait import dot_wait, late_waits, needless_waits
from tilec.backends.ptx.shared_views import convert_rule, view_rule
from tilec.ir.core import Block, Kernel, Op, Value, uses, walk
from tilec.ir.errors import ResourceError
from tilec.ir.ops import attr
from tilec.passes.allocate import Request, SmemPlan, allocate


class Hopper:
    """Plans and rules for one SCHEDULED kernel with layouts."""

    def __init__(self, kernel: Kernel, rules: Mapping[str, Rule]) -> None:
        self.kernel, self.base = kernel, rules
        self.uses = uses(kernel.body)
        self.rings = plan_rings(kernel)
        self.turns = hopper_turns.plan_turns(kernel)
        self.groups = {s.op: s.group for s in sites(kernel) if s.op.name == "store"}
        self.stores = _stores(kernel)
        self.plan = self._allocate()
        self.sections = plan_sections(kernel, self.rings, self.stores)
        self.workspace = self.sections.workspace
        self.open: dict[Value, Ring] = {v: Ring(p, self.plan.rings[v]) for v, p in self.rings.items()}
        self.products = Products(kernel, rules["dot"])
        self.late, self.needless = late_waits(kernel.body), needless_waits(kernel.body)
        self.alone, self.cluster = False, extents(kernel)

    @property
    def rules(self) -> Mapping[str, Rule]:
        """All rules: the plain ones, with ours in front."""
        own: dict[str, Rule] = {
            "aref.new": lambda e, op: None,
            "aref.put": lambda e, op: put(e, op, self.open[op.args[0]], self.alone),
            "aref.get": lambda e, op: hopper_ring.get(e, op, self.open[op.args[0]]),
            "aref.release": lambda e, op: hopper_ring.release(e, op, self.open[op.args[0]]),
            "turn.enter": lambda e, op: hopper_turns.enter(e, op, self.turns),
            "turn.exit": lambda e, op: hopper_turns.leave(e, op, self.turns),
            "warp_groups": lambda e, op: run_groups(e, op, self),
            "dot": self.products.rule,
            "dot.wait": lambda e, op: dot_wait(e, op, self.late, self.needless),
            "load": self._load,
            "gather": self._gather,
            "store": self._store,
            "section": lambda e, op: section(e, op, self.sections, self.base["section"], self.alone),
            "reshape": view_rule(self.base["reshape"]),
            "permute": view_rule(self.base["permute"]),
            "convert_layout": convert_rule(self.base["convert_layout"]),
        }
        return {**self.base, **own}

    def begin(self, e: Emitter) -> None:
        """At the entry: barriers, and the sides of rings that code outside of groups uses."""
        together = self.cluster != (1, 1, 1)
        if together:
            e.builder.directive("reqnctapercluster", *self.cluster)
        hopper_ring.init_barriers(e, list(self.open.values()), together)
        hopper_ring.open_sides(e, self.kernel.body, self.open, skip_groups=True)
        if not any(op.name == "warp_groups" for op in self.kernel.body.ops):
            self.prepare(e, self.kernel.body)

    def prepare(self, e: Emitter, block: Block) -> None:
        """Compute before a group's code what its loops would compute again and again."""
        if self.plan.total:
            e.smem()
            hopper_ring.smem_units(e)
        for op in walk(block):
            if op.name == "dot":
                prepare(e, op)
            if op.name == "aref.release":
                hopper_ring.arriver(e, self.open[op.args[0]])

    def end(self, e: Emitter, group: str = "main") -> None:
        """At the end of a group its copies out of shared memory are done; at the end of the program nobody
        touches its shared memory any more."""
        if any(self.groups[op] == group for op in self.stores):
            drain(e)
        if group == "main" and self.cluster != (1, 1, 1):
            meet(e)

    def _allocate(self) -> SmemPlan:
        """Shared memory, with staging for each group's stores as large as fits, down to none."""
        fixed = staging(self.kernel)
        while True:
            try:
                return allocate(self.kernel, [*fixed, *self._staging()], tile_bytes=tile_bytes)
            except ResourceError:
                if not self.stores:
                    raise
                self._shrink(max(p.part.bytes for p in self.stores.values()))

    def _staging(self) -> list[Request]:
        sizes: dict[str, int] = {}
        for op, plan in self.stores.items():
            sizes[self.groups[op]] = max(sizes.get(self.groups[op], 0), plan.part.bytes)
        return [Request(staging_key(g), n, f"staging of stores of {g}") for g, n in sizes.items()]

    def _shrink(self, size: int) -> None:
        """Halve the largest parts of stores; where that cannot be, the tensor is stored without TMA."""
        for op, plan in list(self.stores.items()):
            if plan.part.bytes == size and op in self.stores:
                smaller = plan.halved()
                if smaller is not None:
                    self.stores[op] = smaller
                else:
                    self.stores = {o: p for o, p in self.stores.items() if o.args[0] is not op.args[0]}

    # Rules.

    def _load(self, e: Emitter, op: Op) -> None:
        puts = self.uses.get(op.result, [])
        if self.by_copy(op):
            e.bind(op.result, Pending(op.args[0], offsets(e, op.args[1:]), attr(op, "cluster")))
        elif len(puts) == 1 and puts[0].name == "aref.put" and in_parts(puts[0]):
            e.bind(op.result, later(e, op))
        else:
            self.base["load"](e, op)

    def _gather(self, e: Emitter, op: Op) -> None:
        puts = self.uses.get(op.result, [])
        if puts and all(u.name == "aref.put" and self.rings[u.args[0]].copied for u in puts):
            e.bind(op.result, rows(e, op))
        else:
            self.base["gather"](e, op)

    def by_copy(self, load: Op) -> bool:
        """Whether a load only feeds rings that TMA fills."""
        found = self.uses.get(load.result, [])
        return bool(found) and all(u.name == "aref.put" and self.rings[u.args[0]].tma for u in found)

    def _store(self, e: Emitter, op: Op) -> None:
        plan = self.stores.get(op)
        if plan is None:
            self.base["store"](e, op)
        else:
            store(e, op, plan)


def _stores(kernel: Kernel) -> dict[Op, StorePlan]:
    """The stores that TMA can do: all stores of a tensor, or none."""
    free, found = only_stored(kernel), [s for s in sites(kernel) if s.op.name == "store"]
    plans = {s.op: store_plan(s.op, s.warps) for s in found}
    free -= {op.args[0] for op, plan in plans.items() if plan is None}
    return {op: plan for op, plan in plans.items() if plan is not None and op.args[0] in free}
