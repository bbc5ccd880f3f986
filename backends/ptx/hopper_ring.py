"""Rings on Hopper: two mbarriers per slot, filled by TMA or by ordinary stores.

Slot s of a ring has a barrier full[s] and a barrier empty[s]. Each side of a ring
keeps a stage and a phase in registers for as long as the kernel runs; loops do not
reset them, so that every lap of the ring flips the parity once (PTX ISA, mbarrier).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tilec.backends.ptx.context import Emitter
from tilec.backends.ptx.hopper_cluster import arrive, meet
from tilec.backends.ptx.hopper_held import held_before
from tilec.backends.ptx.hopper_operands import WARPGROUP
from tilec.backends.ptx.hopper_plan import RingPlan
from tilec.backends.ptx.hopper_views import identity
from tilec.backends.ptx.shared_views import SharedView
from tilec.ir.core import Block, Op, Value, walk
from tilec.ir.layout import LANE_BITS
from tilec.ir.ops import attr
from tilec.ir.ptx.module import Addr, Not, Reg
from tilec.ir.types import TileType
from tilec.passes.allocate import BARRIER_BYTES, RingBuffers

DESCRIPTOR_BITS = 14
UNIT_BITS = 4  # descriptors count addresses in units of 16 bytes


@dataclass
class Side:
    """One side of a ring in one group: registers that live as long as the group.

    ``held`` counts borrowed slots, where a release has to test it; ``last`` is where the barriers
    of the slot that was got last are, counted from the ring's first.
    """

    stage: Reg
    phase: Reg
    last: Reg | None = None
    oldest: Reg | None = None
    held: Reg | None = None
    before: dict[Op, tuple[int, int]] = field(default_factory=dict)


@dataclass
class Ring:
    """A ring of the kernel: plan, memory, and the sides of the group being emitted."""

    plan: RingPlan
    buffers: RingBuffers
    put: Side | None = None
    get: Side | None = None


@dataclass(frozen=True)
class SmemView(SharedView):
    """A tile ``first`` units behind an address in a register; units are of 16 bytes, as in descriptors."""

    units: Reg
    first: int

    def base(self, e: Emitter) -> Reg:
        at = e.make("b32", "add.s32", self.units, self.first)
        at = e.make("b32", "shl.b32", at, UNIT_BITS)
        if "cluster" not in e.kernel.attrs:
            return at
        # In a cluster the upper bits of an address say whose shared memory it is.
        window = e.make("b32", "and.b32", e.smem(), -1 << UNIT_BITS + DESCRIPTOR_BITS)
        return e.make("b32", "or.b32", at, window)


def init_barriers(e: Emitter, rings: list[Ring], together: bool = False) -> None:
    """Initialise the barriers of all rings by one thread, and show them to all and to TMA; ``together``:
    to the other programs of the cluster too."""
    if not rings:
        return
    with only_thread(e, 0):
        for ring in rings:
            for first, count in ((ring.buffers.full, ring.plan.full_count),
                                 (ring.buffers.empty, ring.plan.empty_count)):  # fmt: skip
                for s in range(ring.plan.depth):
                    where = Addr(e.smem(), first + BARRIER_BYTES * s)
                    e.emit("mbarrier.init.shared::cta.b64", where, count)
        e.emit("fence.mbarrier_init.release.cluster")
    if together:
        meet(e)
    else:
        e.emit("bar.sync", 0)


@contextmanager
def only_thread(e: Emitter, number: int) -> Iterator[None]:
    """What is emitted inside runs in one thread of the group."""
    other = e.make("pred", "setp.ne.u32", e.thread(), number)
    skip = e.label("skip")
    e.emit("bra", skip, pred=other)
    with e.scope():
        yield
    e.place(skip)


def open_sides(e: Emitter, block: Block, rings: dict[Value, Ring], skip_groups: bool = False) -> None:
    """Give the group that runs ``block`` its registers for the rings that it puts to or gets from.

    ``skip_groups``: blocks of warp groups inside are others' code.
    """
    ops = [op for op in block.ops if op.name != "warp_groups"] if skip_groups else list(block.ops)
    inner = [op for top in ops for op in (top, *(o for b in top.blocks for o in walk(b)))]
    names = {(op.args[0], op.name) for op in inner if op.name in ("aref.put", "aref.get")}
    for value, ring in rings.items():
        ring.put = ring.get = None
        if (value, "aref.put") in names:
            ring.put = Side(_counter(e, 0), _counter(e, 1))
        if (value, "aref.get") in names:
            ring.get = _reading_side(e, block, value, ring.plan.depth)


def _counter(e: Emitter, start: int) -> Reg:
    return e.make("b32", "mov.b32", start)


def _reading_side(e: Emitter, block: Block, ring: Value, depth: int) -> Side:
    before = held_before(block, ring, depth)
    side = Side(_counter(e, 0), _counter(e, 0), before=before)
    if any(_lag(op, at) for op, at in before.items()):
        side.oldest = _counter(e, 0)
    elif before:
        side.last = _counter(e, 0)
    if any(at[0] != at[1] for at in before.values()):
        side.held = _counter(e, 0)
    return side


def _lag(op: Op, held: tuple[int, int]) -> bool:
    """Whether the slot to release need not be the one that was got last."""
    return held != (1, 1) or attr(op, "keep") > 0


def barrier(e: Emitter, first: int, stage: Reg) -> Addr:
    """The barrier of a stage, in the array of barriers at offset ``first``."""
    return Addr(_barriers(e, stage), first)


def _barriers(e: Emitter, stage: Reg) -> Reg:
    """Where a stage's barriers are, but for the offsets of their arrays."""
    return e.make("b32", "add.s32", e.make("b32", "shl.b32", stage, 3), e.smem())


def wait(e: Emitter, where: Addr, parity: Reg, scope: str = "") -> None:
    """Wait until the phase of this parity is over (acquire); ``scope``: of the arrivals, if not the CTA."""
    again = e.label("wait")
    e.place(again)
    done = e.make("pred", f"mbarrier.try_wait.parity{scope}.shared::cta.b64", where, parity)
    e.emit("bra", again, pred=_not(done))


def advance(e: Emitter, depth: int, stage: Reg, phase: Reg | None) -> None:
    """The next stage; the phase flips where the ring wraps."""
    e.emit("add.s32", stage, stage, 1)
    wrap = e.make("pred", "setp.eq.s32", stage, depth)
    e.emit("mov.b32", stage, 0, pred=wrap)
    if phase is not None:
        e.emit("xor.b32", phase, phase, 1, pred=wrap)


def slot(e: Emitter, ring: Ring, index: int, stage: Reg) -> Reg:
    """The address of tile ``index`` of the slot of a stage."""
    start = e.make("b32", "add.s32", e.smem(), ring.buffers.tiles[index])
    return e.make("b32", "mad.lo.s32", stage, ring.buffers.strides[index], start)


def _slot_units(e: Emitter, ring: Ring, index: int, stage: Reg) -> Reg:
    """The same address in units of 16 bytes, but for the ring's place: descriptors add that."""
    return e.make("b32", "mad.lo.s32", stage, ring.buffers.strides[index] >> UNIT_BITS, smem_units(e))


def smem_units(e: Emitter) -> Reg:
    """The address of the kernel's shared memory in units of 16 bytes."""
    return e.cached("smem units", lambda: in_units(e, e.smem()))  # type: ignore[no-any-return]


def in_units(e: Emitter, address: Reg) -> Reg:
    """An address as descriptors have it: 14 bits, which do not say whose shared memory it is."""
    return e.make("b32", "bfe.u32", address, UNIT_BITS, DESCRIPTOR_BITS)


def get(e: Emitter, op: Op, ring: Ring) -> None:
    """Wait for a full slot; its tiles become views of shared memory."""
    side = _open(ring.get)
    at = _barriers(e, side.stage)
    wait(e, Addr(at, ring.buffers.full), side.phase)
    if side.last is not None:
        e.emit("mov.b32", side.last, at)
    if ring.plan.copied and ring.plan.proxy_fence:
        e.emit("fence.proxy.async.shared::cta")
    for index, (result, tile) in enumerate(zip(op.results, ring.plan.tiles, strict=True)):
        assert isinstance(result.type, TileType)
        shape = result.type.shape
        first = ring.buffers.tiles[index] >> UNIT_BITS
        units = _slot_units(e, ring, index, side.stage)
        e.bind(result, SmemView(tile, identity(shape), shape, units, first))
    advance(e, ring.plan.depth, side.stage, side.phase)
    if side.held is not None:
        e.emit("add.s32", side.held, side.held, 1)


def release(e: Emitter, op: Op, ring: Ring) -> None:
    """Arrive on the empty barriers of the oldest slots until ``keep`` are held."""
    side, keep = _open(ring.get), attr(op, "keep")
    low, high = side.before[op]
    for n in range(high - keep):
        if low - keep > n:
            _release_one(e, ring, side)
        else:
            _release_if_more(e, ring, side, keep)


def _release_if_more(e: Emitter, ring: Ring, side: Side, keep: int) -> None:
    assert side.held is not None
    enough = e.make("pred", "setp.le.s32", side.held, keep)
    skip = e.label("held")
    e.emit("bra", skip, pred=enough)
    with e.scope():
        _release_one(e, ring, side)
    e.place(skip)


def _release_one(e: Emitter, ring: Ring, side: Side) -> None:
    at = side.last if side.oldest is None else _barriers(e, side.oldest)
    assert at is not None
    _arrive_empty(e, ring, at)
    if side.oldest is not None:
        advance(e, ring.plan.depth, side.oldest, None)
    if side.held is not None:
        e.emit("sub.s32", side.held, side.held, 1)


def _arrive_empty(e: Emitter, ring: Ring, at: Reg) -> None:
    """``at``: where the slot's barriers are, as `_barriers` says."""
    if ring.plan.readers[e.group.name] == "warp":
        if ring.plan.tma:
            e.emit("fence.proxy.async.shared::cta")
        e.emit("bar.warp.sync", -1)
    where = Addr(at, ring.buffers.empty)
    if ring.plan.cluster > 1:
        arrive(e, where, _place(e, ring), arriver(e, ring))
    else:
        e.emit("mbarrier.arrive.shared::cta.b64", Reg("_"), where, pred=arriver(e, ring))


def arriver(e: Emitter, ring: Ring) -> Reg:
    """A predicate: the thread arrives for its warpgroup (wgmma readers) or its warp, on the barrier of one
    of the programs that fill the ring together."""
    key = "arriver", ring.plan.readers[e.group.name], ring.plan.cluster
    return e.cached(key, lambda: e.make("pred", "setp.lt.u32", _place(e, ring), ring.plan.cluster))  # type: ignore[no-any-return]


def _place(e: Emitter, ring: Ring) -> Reg:
    """The thread's number in its warpgroup (wgmma readers) or its warp."""
    kind = ring.plan.readers[e.group.name]
    mask = (WARPGROUP << LANE_BITS) - 1 if kind == "wgmma" else (1 << LANE_BITS) - 1
    return e.cached(("place", kind), lambda: e.make("b32", "and.b32", e.thread(), mask))  # type: ignore[no-any-return]


def _open(side: Side | None) -> Side:
    assert side is not None
    return side


def _not(reg: Reg) -> Not:
    return Not(reg)
