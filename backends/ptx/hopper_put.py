"""`aref.put`: by TMA where the copy engine can, else by the whole group: cp.async, or ordinary stores."""

from __future__ import annotations

from tilec.backends.ptx.context import Emitter
from tilec.backends.ptx.hopper_parts import fill
from tilec.backends.ptx.hopper_ring import Ring, Side, advance, barrier, only_thread, slot, wait
from tilec.backends.ptx.hopper_rows import Rows, copy
from tilec.backends.ptx.hopper_tma import Pending, load_tile
from tilec.ir.core import Op
from tilec.ir.ptx.module import Reg


def put(e: Emitter, op: Op, ring: Ring, alone: bool) -> None:
    """Wait for an empty slot, fill it, signal full. ``alone``: only one thread runs this code."""
    side = ring.put
    assert side is not None
    if ring.plan.copied:
        _put_rows(e, op, ring, side)
    elif not ring.plan.tma:
        _put_stores(e, op, ring, side)
    elif alone:
        _put_copies(e, op, ring, side)
    else:
        with only_thread(e, 0):
            _put_copies(e, op, ring, side)
    advance(e, ring.plan.depth, side.stage, side.phase)


def _put_copies(e: Emitter, op: Op, ring: Ring, side: Side) -> None:
    """One arrival that expects the bytes of all boxes, then the copies, which complete them."""
    full = barrier(e, ring.buffers.full, side.stage)
    scope = ".acquire.cluster" if ring.plan.cluster > 1 else ""
    wait(e, barrier(e, ring.buffers.empty, side.stage), side.phase, scope)
    e.emit("mbarrier.arrive.expect_tx.shared::cta.b64", Reg("_"), full, ring.plan.box_bytes)
    for index, (value, tile) in enumerate(zip(op.args[1:], ring.plan.tiles, strict=True)):
        load = e.env[value]
        assert isinstance(load, Pending)
        load_tile(e, load, tile, slot(e, ring, index, side.stage), full)


def _put_rows(e: Emitter, op: Op, ring: Ring, side: Side) -> None:
    """Every thread starts its copies; they arrive for it when they are done."""
    wait(e, barrier(e, ring.buffers.empty, side.stage), side.phase)
    for index, (value, tile) in enumerate(zip(op.args[1:], ring.plan.tiles, strict=True)):
        rows = e.env[value]
        assert isinstance(rows, Rows)
        copy(e, rows, tile, slot(e, ring, index, side.stage))
    full = barrier(e, ring.buffers.full, side.stage)
    e.emit("cp.async.mbarrier.arrive.noinc.shared::cta.b64", full)


def _put_stores(e: Emitter, op: Op, ring: Ring, side: Side) -> None:
    """Every warp stores its elements, and one of its threads arrives for it."""
    wait(e, barrier(e, ring.buffers.empty, side.stage), side.phase)
    fill(e, op.args[1:], ring, [slot(e, ring, index, side.stage) for index in range(len(op.args) - 1)])
    if ring.plan.proxy_fence:
        e.emit("fence.proxy.async.shared::cta")
    e.emit("bar.warp.sync", -1)
    first = e.cached("first lane", lambda: e.make("pred", "setp.eq.u32", e.lane(), 0))
    full = barrier(e, ring.buffers.full, side.stage)
    e.emit("mbarrier.arrive.shared::cta.b64", Reg("_"), full, pred=first)
