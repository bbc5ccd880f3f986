"""The rule of `dot`: where its operands and its accumulator are, then wgmma."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from tilec.backends.ptx.context import Emitter, Fragment, Rule, register_type
from tilec.backends.ptx.control import moves
from tilec.backends.ptx.hopper_operands import WARPGROUP, Staged, direct_registers, staged_bytes, staged_tile
from tilec.backends.ptx.hopper_plan import Site, sites
from tilec.backends.ptx.hopper_ring import SmemView, in_units
from tilec.backends.ptx.hopper_smem import operand
from tilec.backends.ptx.hopper_stage import Place, write
from tilec.backends.ptx.hopper_views import identity
from tilec.backends.ptx.hopper_wgmma import (
    Packed,
    Shape,
    Shared,
    packed,
    products,
    quad,
    shared_operand,
    warpgroup,
)
from tilec.backends.ptx.packed_ahead import packed_ahead
from tilec.backends.ptx.words import joined
from tilec.ir.core import Kernel, Op, Value, definitions, uses, walk
from tilec.ir.ops import attr
from tilec.ir.types import TileType
from tilec.passes.allocate import Request
from tilec.passes.layout_rules import on_tensor_cores
from tilec.passes.rewrite import is_zero


class Products:
    """The products of a kernel. ``plain`` is the rule for those that wgmma cannot compute."""

    def __init__(self, kernel: Kernel, plain: Rule) -> None:
        self.plain = plain
        self.defs, self.homes = definitions(kernel.body), carried_homes(kernel)
        self.ahead = packed_ahead(kernel.body)

    def rule(self, e: Emitter, op: Op) -> None:
        """The rule of `dot`."""
        if not on_tensor_cores(op, e.group.warps):
            self.plain(e, op)
            return
        a, b, acc = op.args
        _pack(e, self.ahead.get(op, ()))
        size = dot_shape(op, e.group.warps)
        staged = self._stage(e, op)
        left = self._operand(e, a, 0, size, staged)
        right = self._operand(e, b, 1, size, staged)
        assert isinstance(right, Shared) and isinstance(op.result.type, TileType)
        fresh = is_zero(acc, self.defs)
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
        What a product is still adding to is waited for before it is copied there.
        """
        home, acc = self.homes.get(op.result), op.args[2]
        assert isinstance(op.result.type, TileType)
        if home is None or not e.idle(home) or e.fragment(home).layout != op.result.type.layout:
            return e.fresh(op.result.type) if fresh else e.take(acc)
        into, before = e.fragment(home), self.defs.get(acc)
        if before is not None and before.name == "dot" and e.fragment(acc).regs != into.regs:
            e.emit("wgmma.wait_group.sync.aligned", 0)
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
            start = in_units(e, s.base)
            return shared_operand(e, start, operand(s.tile, index, 1 - index), groups)
        if isinstance(bound, SmemView):
            dims = bound.dims if index == 0 else (bound.dims[1], bound.dims[0])
            mn, k = dims
            assert mn is not None and k is not None
            return shared_operand(e, bound.units, operand(bound.tile, mn, k), groups, bound.first)
        assert isinstance(bound, Fragment)
        return packed(e, bound)


def _pack(e: Emitter, values: Iterable[Value]) -> None:
    """Give tiles their words."""
    for value in values:
        fragment = e.fragment(value)
        e.env[value] = replace(fragment, words=joined(e, fragment))


def prepare(e: Emitter, op: Op) -> None:
    """Compute ahead what a dot in a loop would compute in every round."""
    if not on_tensor_cores(op, e.group.warps):
        return
    distinct, left = dot_shape(op, e.group.warps).distinct, op.args[0].type
    if distinct > 1:
        warpgroup(e, distinct)
    if isinstance(left, TileType) and left.space == "reg" and left.dtype.bits == 8:
        quad(e)


def carried_homes(kernel: Kernel) -> dict[Value, Value]:
    """For results of dots that a loop carries on: the parameter of the loop's body that gets them.

    So are those of the dots before, where one adds to what another made and nothing else has that.
    """
    homes: dict[Value, Value] = {}
    for loop in (op for op in walk(kernel.body) if op.name == "for"):
        (body,) = loop.blocks
        made, used = {r: op for op in body.ops for r in op.results}, uses(body)
        for param, value in zip(body.params[1:], body.yielded, strict=True):
            value = _waited(made, value)
            while value in made and made[value].name == "dot":
                homes[value] = param
                value = made[value].args[2]
                if len(used.get(value, ())) > 1 or value in body.yielded:
                    break
                value = _waited(made, value)
    return homes


def _waited(made: Mapping[Value, Op], value: Value) -> Value:
    """The result of a dot that a wait passes on."""
    while value in made and made[value].name == "dot.wait":
        value = made[value].args[made[value].results.index(value)]
    return value


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


def staging(kernel: Kernel) -> list[Request]:
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
