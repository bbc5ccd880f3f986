"""What Hopper adds to the rules of the PTX backend: rings, products, warp groups, the epilogue.

`Hopper` decides everything before emission (ring plans, staging buffers, stores by TMA)
and gives the table of rules; rules for ops that also have a plain form fall back to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from tilec.backends.ptx import hopper_ring
from tilec.backends.ptx.context import Emitter, Fragment, Rule, register_type
from tilec.backends.ptx.control import moves
from tilec.backends.ptx.hopper_dot import Packed, Shape, Shared, packed, products, shared_operand, warpgroup
from tilec.backends.ptx.hopper_groups import run_groups
from tilec.backends.ptx.hopper_operands import (
    Staged,
    direct_registers,
    staged_bytes,
    staged_tile,
)
from tilec.backends.ptx.hopper_plan import WARPGROUP, Site, plan_rings, sites
from tilec.backends.ptx.hopper_put import put
from tilec.backends.ptx.hopper_ring import Ring, SmemView
from tilec.backends.ptx.hopper_smem import operand, tile_bytes
from tilec.backends.ptx.hopper_stage import Place, read, write
from tilec.backends.ptx.hopper_store import KEY, StorePlan, drain, only_stored, store, store_plan
from tilec.backends.ptx.hopper_tma import Pending, offsets
from tilec.backends.ptx.hopper_views import identity, view_step
from tilec.ir.core import Block, Kernel, Op, Value, definitions, uses, walk
from tilec.ir.errors import ResourceError, UnsupportedError
from tilec.ir.ops import attr
from tilec.ir.types import TileType
from tilec.passes.allocate import Request, SmemPlan, allocate
from tilec.passes.layout_rules import on_tensor_cores


class Hopper:
    """Plans and rules for one SCHEDULED kernel with layouts."""

    def __init__(self, kernel: Kernel, rules: Mapping[str, Rule]) -> None:
        self.kernel, self.base = kernel, rules
        self.defs, self.uses = definitions(kernel.body), uses(kernel.body)
        self.rings = plan_rings(kernel)
        self.stores = _stores(kernel)
        self.plan = self._allocate()
        self.open: dict[Value, Ring] = {v: Ring(p, self.plan.rings[v]) for v, p in self.rings.items()}
        self.homes = carried_homes(kernel)
        self.alone = False

    @property
    def rules(self) -> Mapping[str, Rule]:
        """All rules: the plain ones, with ours in front."""
        own: dict[str, Rule] = {
            "aref.new": lambda e, op: None,
            "aref.put": lambda e, op: put(e, op, self.open[op.args[0]], self.alone),
            "aref.get": lambda e, op: hopper_ring.get(e, op, self.open[op.args[0]]),
            "aref.release": lambda e, op: hopper_ring.release(e, op, self.open[op.args[0]]),
            "warp_groups": lambda e, op: run_groups(e, op, self),
            "dot": self._dot,
            "dot.wait": _dot_wait,
            "load": self._load,
            "store": self._store,
            "reshape": self._view,
            "permute": self._view,
            "convert_layout": self._convert,
        }
        return {**self.base, **own}

    def begin(self, e: Emitter) -> None:
        """At the entry: barriers, and the sides of rings that code outside of groups uses."""
        hopper_ring.init_barriers(e, list(self.open.values()))
        hopper_ring.open_sides(e, self.kernel.body, self.open, skip_groups=True)
        if not any(op.name == "warp_groups" for op in self.kernel.body.ops):
            self.prepare(e, self.kernel.body)

    def prepare(self, e: Emitter, block: Block) -> None:
        """Compute before a group's code what its loops would compute again and again."""
        if self.plan.total:
            e.smem()
        for op in walk(block):
            if op.name == "dot" and on_tensor_cores(op, e.group.warps):
                distinct = dot_shape(op, e.group.warps).distinct
                if distinct > 1:
                    warpgroup(e, distinct)
            if op.name == "aref.release":
                hopper_ring.arriver(e, self.open[op.args[0]])

    def end(self, e: Emitter, group: str = "main") -> None:
        """At the end of a group."""
        if any(s.group == group for s in sites(self.kernel) if s.op in self.stores):
            drain(e)

    def _allocate(self) -> SmemPlan:
        """Shared memory, with staging for stores as large as fits, down to none."""
        fixed = _staging(self.kernel)
        while True:
            size = max((p.part.bytes for p in self.stores.values()), default=0)
            extra = [Request(KEY, size, "staging of stores")] if size else []
            try:
                return allocate(self.kernel, [*fixed, *extra], tile_bytes=tile_bytes)
            except ResourceError:
                if not size:
                    raise
                self._shrink(size)

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
        if self.by_copy(op):
            e.bind(op.result, Pending(op.args[0], offsets(e, op.args[1:])))
        else:
            self.base["load"](e, op)

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

    def _view(self, e: Emitter, op: Op) -> None:
        """reshape and permute of shared memory are views."""
        view = e.env.get(op.args[0])
        if not isinstance(view, SmemView):
            self.base[op.name](e, op)
            return
        dims, t = view_step(op, view.dims), op.result.type
        if dims is None or not isinstance(t, TileType):
            raise UnsupportedError(
                "U506",
                f"{op.name} of a tile in shared memory from {view.shape} to {t}",
                help="only axes of extent 1 may come and go there; load the tile in its final shape",
            )
        e.bind(op.result, replace(view, dims=dims, shape=t.shape))

    def _convert(self, e: Emitter, op: Op) -> None:
        """From shared memory: load the tile into registers."""
        view = e.env.get(op.args[0])
        if not isinstance(view, SmemView):
            self.base["convert_layout"](e, op)
            return
        assert isinstance(op.result.type, TileType)
        fragment = e.fresh(op.result.type)
        read(e, fragment, Place(view.tile, view.base, view.dims))
        e.bind(op.result, fragment)

    def _dot(self, e: Emitter, op: Op) -> None:
        if not on_tensor_cores(op, e.group.warps):
            self.base["dot"](e, op)
            return
        a, b, acc = op.args
        size = dot_shape(op, e.group.warps)
        staged = self._stage(e, op)
        left = self._operand(e, a, 0, size, staged)
        right = self._operand(e, b, 1, size, staged)
        assert isinstance(right, Shared) and isinstance(op.result.type, TileType)
        fresh = self._is_zero(acc)
        into = self._accumulator(e, op, fresh)
        assert isinstance(a.type, TileType)
        products(e, size, a.type.dtype, left, right, into, fresh)
        if staged or not attr(op, "asynchronous"):
            e.emit("wgmma.wait_group.sync.aligned", 0)
        e.bind(op.result, into)

    def _accumulator(self, e: Emitter, op: Op, fresh: bool) -> Fragment:
        """The registers that a dot updates.

        If the loop around will carry the result on, that is where the loop wants it, provided
        that what was there is dead: else two accumulators of a loop change places in every round.
        """
        home, acc = self.homes.get(op.result), op.args[2]
        assert isinstance(op.result.type, TileType)
        if home is None or not e.idle(home) or e.fragment(home).layout != op.result.type.layout:
            return e.fresh(op.result.type) if fresh else e.take(acc)
        into = e.fragment(home)
        if not fresh:
            kind = register_type(into.dtype)
            moves(e, [(t, f, kind) for t, f in zip(into.regs, e.fragment(acc).regs, strict=True)])
        return into

    def _stage(self, e: Emitter, op: Op) -> dict[int, Staged]:
        """Put register operands that wgmma cannot take into shared memory, for all to see."""
        wanted = [i for i in (0, 1) if needs_stage(op, i, e.group.warps)]
        if not wanted:
            return {}
        e.sync()
        made = {}
        for i in wanted:
            fragment = e.fragment(op.args[i])
            base = e.make("b32", "add.s32", e.smem(), e.plan.extra[stage_key(e.group.name, i)].offset)
            made[i] = Staged(staged_tile(fragment.dtype, fragment.shape, 1 - i), base)
            write(e, fragment, Place(made[i].tile, base, identity(fragment.shape)))
        e.emit("fence.proxy.async.shared::cta")
        e.sync()
        return made

    def _operand(
        self, e: Emitter, value: Value, index: int, size: Shape, staged: Mapping[int, Staged]
    ) -> Shared | Packed:
        groups = size.distinct if index == 0 else 1
        bound = e.env[value]
        if index in staged:
            s = staged[index]
            return shared_operand(e, s.base, operand(s.tile, index, 1 - index), groups)
        if isinstance(bound, SmemView):
            dims = bound.dims if index == 0 else (bound.dims[1], bound.dims[0])
            mn, k = dims
            assert mn is not None and k is not None
            return shared_operand(e, bound.base, operand(bound.tile, mn, k), groups)
        assert isinstance(bound, Fragment)
        return packed(e, bound)

    def _is_zero(self, value: Value) -> bool:
        op = self.defs.get(value)
        while op is not None and op.name in ("broadcast", "reshape", "convert_layout"):
            op = self.defs.get(op.args[0])
        return op is not None and op.name == "const" and op.attrs["value"] == 0


def _dot_wait(e: Emitter, op: Op) -> None:
    """The values stay in their registers."""
    e.emit("wgmma.wait_group.sync.aligned", op.attrs["pending"])
    for arg, result in zip(op.args, op.results, strict=True):
        e.bind(result, e.take(arg))


def carried_homes(kernel: Kernel) -> dict[Value, Value]:
    """For results of dots that a loop carries on: the parameter of the loop's body that gets them."""
    homes: dict[Value, Value] = {}
    for loop in (op for op in walk(kernel.body) if op.name == "for"):
        (body,) = loop.blocks
        made = {r: op for op in body.ops for r in op.results}
        for param, value in zip(body.params[1:], body.yielded, strict=True):
            while value in made and made[value].name == "dot.wait":
                value = made[value].args[made[value].results.index(value)]
            if value in made and made[value].name == "dot":
                homes[value] = param
    return homes


def dot_shape(op: Op, warps: int) -> Shape:
    """The sizes of a dot run by a group."""
    a, b = op.args[0].type, op.args[1].type
    assert isinstance(a, TileType) and isinstance(b, TileType)
    return Shape(a.shape[0], b.shape[1], a.shape[1], warps // WARPGROUP)


def needs_stage(op: Op, index: int, warps: int) -> bool:
    """Whether operand ``index`` is in registers but not in a form that wgmma takes."""
    t = op.args[index].type
    assert isinstance(t, TileType)
    return t.space == "reg" and not (index == 0 and direct_registers(t, warps))


def stage_key(group: str, index: int) -> str:
    return f"operand {index} of {group}"


def _staging(kernel: Kernel) -> list[Request]:
    """Buffers for register operands of dots: one for A and one for B in each group that needs it."""
    sizes: dict[str, int] = {}
    for site in sites(kernel):
        if site.op.name == "dot" and on_tensor_cores(site.op, site.warps):
            _stage_sizes(site, sizes)
    return [Request(key, size, f"dot {key}") for key, size in sizes.items()]


def _stage_sizes(site: Site, sizes: dict[str, int]) -> None:
    for index in (0, 1):
        t = site.op.args[index].type
        if needs_stage(site.op, index, site.warps) and isinstance(t, TileType):
            key = stage_key(site.group, index)
            sizes[key] = max(sizes.get(key, 0), staged_bytes(t, 1 - index))


def _stores(kernel: Kernel) -> dict[Op, StorePlan]:
    """The stores that TMA can do: all stores of a tensor, or none."""
    free, found = only_stored(kernel), [s for s in sites(kernel) if s.op.name == "store"]
    plans = {s.op: store_plan(s.op, s.warps) for s in found}
    free -= {op.args[0] for op, plan in plans.items() if plan is None}
    return {op: plan for op, plan in plans.items() if plan is not None and op.args[0] in free}
