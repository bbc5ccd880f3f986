"""Barriers, asynchronous groups, hazards and deadlocks of the emulator."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from emulator_kit import MODES, TID, builder, index, once, pointer, run, shared, wait

from tilec.ir.errors import DeadlockError, RaceError, UnsupportedError
from tilec.ir.loc import Loc
from tilec.ir.ptx import addr
from tilec.ir.ptx.module import Not, Reg
from tilec.runtime.emulator import EmulatorError

BULK = "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes"


def ring(
    depth: int, steps: int, *, parity_shift: int = 0, early: bool = False, size: int = 512
) -> tuple[Any, ...]:
    """A producer warp feeds ``steps`` chunks through a ring of ``depth`` slots to a consumer
    warp, which adds them. ``parity_shift`` and ``early`` (release before reading) are faults."""
    source = np.arange(steps * 128, dtype=np.uint32).reshape(steps, 4, 32)
    out = np.zeros((32, 4), np.uint32)
    b = builder()
    data, to = pointer(b), pointer(b)
    slots, bars = b.shared("slots", depth * 512, align=128), b.shared("bars", 16 * depth)
    tile, full = shared(b, slots), shared(b, bars)
    empty = b.define("b32", "add.u32", full, 8 * depth)

    def init():
        for i in range(depth):
            b.emit("mbarrier.init.shared::cta.b64", addr(full, 8 * i), 1)
            b.emit("mbarrier.init.shared::cta.b64", addr(empty, 8 * i), 32)

    once(b, init)
    b.emit("bar.sync", 0)
    consumer = b.label("consumer")
    lane = b.define("b32", "mov.u32", TID)
    b.emit("bra", consumer, pred=b.define("pred", "setp.ge.u32", lane, 32))
    chosen = b.reg("pred")
    b.emit("elect.sync", _pair(chosen), -1)
    end = b.label("end")
    b.emit("bra", end, pred=Not(chosen))
    for step in range(steps):
        slot, use = step % depth, step // depth
        if use:
            wait(b, addr(empty, 8 * slot), (use - 1 + parity_shift) & 1)
        b.emit("mbarrier.arrive.expect_tx.shared::cta.b64", b.reg("b64"), addr(full, 8 * slot), size)
        b.emit(BULK, addr(tile, 512 * slot), addr(data, 512 * step), 512, addr(full, 8 * slot))
    b.place(end)
    b.emit("ret")
    b.place(consumer)
    place = b.define("b32", "mad.lo.u32", b.define("b32", "and.b32", lane, 31), 16, tile)
    total, r = b.regs("b32", 4), b.regs("b32", 4)
    for t in total:
        b.emit("mov.u32", t, 0)
    for step in range(steps):
        slot, use = step % depth, step // depth
        wait(b, addr(full, 8 * slot), use & 1)
        if early:
            b.emit("mbarrier.arrive.shared::cta.b64", b.reg("b64"), addr(empty, 8 * slot))
            b.emit("bar.warp.sync", -1)
            _delay(b)
        b.emit("ld.shared.v4.b32", r, addr(place, 512 * slot))
        for t, x in zip(total, r, strict=True):
            b.emit("add.u32", t, t, x)
        if not early:
            b.emit("mbarrier.arrive.shared::cta.b64", b.reg("b64"), addr(empty, 8 * slot))
    b.emit("st.global.v4.b32", addr(index(b, to, 16, b.define("b32", "and.b32", lane, 31))), total)
    b.emit("ret")
    want = source.reshape(steps, 32, 4).sum(axis=0)
    return b, source, out, want


def _delay(b: Any) -> None:
    """A loop that gives others time, in RANDOM."""
    n, again = b.define("b32", "mov.u32", 40), b.label("delay")
    b.place(again)
    b.emit("sub.u32", n, n, 1)
    b.emit("bra", again, pred=b.define("pred", "setp.ne.u32", n, 0))


def _pair(chosen: Reg) -> Any:
    from tilec.ir.ptx.module import Pair

    return Pair(Reg("_"), chosen)


@pytest.mark.parametrize("mode, seed", MODES)
@pytest.mark.parametrize("depth, steps", [(1, 1), (1, 4), (2, 5), (3, 3), (4, 9)])
def test_ring(depth, steps, mode, seed):
    b, source, out, want = ring(depth, steps)
    outcome = run(b, [source, out], block=64, mode=mode, seed=seed)
    # The copies overwrite what ordinary loads have read, as CUTLASS does: a warning.
    assert {r.code for r in outcome.reports} <= {"W2"}
    assert (out == want).all()


@pytest.mark.parametrize("mode, seed", MODES)
def test_wrong_byte_count_is_found(mode, seed):
    """Too many expected bytes never complete; the report names the barrier and its owner."""
    b, source, out, _ = ring(2, 5, size=1024)
    with pytest.raises(DeadlockError, match=r"waits for parity 0 of the mbarrier .*tx 512"):
        run(b, [source, out], block=64, mode=mode, seed=seed)


def test_wrong_parity_deadlocks_or_overwrites():
    b, source, out, _ = ring(2, 7, parity_shift=1)
    with pytest.raises((DeadlockError, RaceError)):
        for mode, seed in MODES:
            run(b, [source, out], block=64, mode=mode, seed=seed)


def test_early_release_is_seen_in_some_mode():
    seen = False
    for seed in range(8):
        b, source, out, want = ring(1, 6, early=True)
        try:
            run(b, [source, out], block=64, mode="random", seed=seed)
            seen |= not (out == want).all()
        except RaceError:
            seen = True
    assert seen


def test_deadlock_names_the_source_line():
    b = builder()
    bar = shared(b, b.shared("bar", 8))
    once(b, lambda: b.emit("mbarrier.init.shared::cta.b64", addr(bar), 2))
    b.emit("bar.sync", 0)
    with b.at(Loc("kernel.py", 12, 4)):
        wait(b, addr(bar), 0)
    b.emit("ret")
    with pytest.raises(DeadlockError, match=r"kernel\.py:12") as e:
        run(b, [], block=32)
    assert "2 of 2 arrivals pending" in str(e.value)


@pytest.mark.parametrize("mode, seed", MODES)
def test_named_barriers_order_producer_and_consumer(mode, seed):
    """Warp 0 writes, arrives; warp 1 waits, reads. Twice, on barriers 1 and 2."""
    out = np.zeros(32, np.uint32)
    b = builder()
    to = pointer(b)
    tile = shared(b, b.shared("tile", 128))
    lane = b.define("b32", "mov.u32", TID)
    local = b.define("b32", "and.b32", lane, 31)
    place = b.define("b32", "mad.lo.u32", local, 4, tile)
    reader, end = b.label("reader"), b.label("end")
    b.emit("bra", reader, pred=b.define("pred", "setp.ge.u32", lane, 32))
    b.emit("st.shared.b32", addr(place), b.define("b32", "mul.lo.u32", local, 3))
    b.emit("bar.arrive", 1, 64)
    b.emit("bar.sync", 2, 64)
    b.emit("st.shared.b32", addr(place), 0)
    b.emit("bra", end)
    b.place(reader)
    b.emit("bar.sync", 1, 64)
    value = b.define("b32", "ld.shared.b32", addr(place))
    b.emit("st.global.b32", addr(index(b, to, 4, local)), value)
    b.emit("bar.arrive", 2, 64)
    b.place(end)
    b.emit("ret")
    run(b, [out], block=64, mode=mode, seed=seed)
    assert (out == 3 * np.arange(32)).all()


def test_a_barrier_that_half_the_block_skips_deadlocks():
    b = builder()
    end = b.label("end")
    b.emit("bra", end, pred=b.define("pred", "setp.ge.u32", b.define("b32", "mov.u32", TID), 32))
    b.emit("bar.sync", 1, 96)
    b.place(end)
    b.emit("ret")
    with pytest.raises(DeadlockError, match="barrier 1, where 32 threads"):
        run(b, [], block=96)


def bulk_store(*, fence: bool = True, waits: bool = True) -> Any:
    b = builder()
    to = pointer(b)
    tile = shared(b, b.shared("tile", 128))
    lane = b.define("b32", "mov.u32", TID)
    b.emit("st.shared.b32", addr(b.define("b32", "mad.lo.u32", lane, 4, tile)), lane)
    if fence:
        b.emit("fence.proxy.async.shared::cta")
    b.emit("bar.sync", 0)

    def store():
        b.emit("cp.async.bulk.global.shared::cta.bulk_group", addr(to), addr(tile), 128)
        b.emit("cp.async.bulk.commit_group")
        if waits:
            b.emit("cp.async.bulk.wait_group.read", 0)

    once(b, store)
    b.emit("ret")
    return b


@pytest.mark.parametrize("mode, seed", MODES)
def test_bulk_store(mode, seed):
    out = np.zeros(32, np.uint32)
    assert not run(bulk_store(), [out], mode=mode, seed=seed).reports
    assert (out == np.arange(32)).all()


@pytest.mark.parametrize("fault, code", [("fence", "E1"), ("waits", "E18")])
def test_bulk_store_hazards(fault, code):
    with pytest.raises(RaceError) as e:
        run(bulk_store(**{fault: False}), [np.zeros(32, np.uint32)])
    assert e.value.code == code


def test_reports_are_collected_when_not_strict():
    outcome = run(bulk_store(fence=False), [np.zeros(32, np.uint32)], strict=False)
    assert [r.code for r in outcome.reports] == ["E1"]


def product(*, fence: bool = True, commit: bool = True, waits: int | None = 0, touch: bool = False) -> Any:
    """One wgmma on zeroed shared memory, then its result is stored."""
    b = builder()
    to = pointer(b)
    tile = shared(b, b.shared("tile", 4096, align=1024))
    lane = b.define("b32", "mov.u32", TID)
    place = b.define("b32", "mad.lo.u32", lane, 16, tile)
    for i in range(2):
        b.emit("st.shared.v4.b32", addr(place, 2048 * i), (0, 0, 0, 0))
    b.emit("fence.proxy.async.shared::cta")
    b.emit("bar.sync", 0)
    d = b.regs("f32", 4)
    for r in d:
        b.emit("mov.f32", r, 1.0)
    start = b.define("b64", "cvt.u64.u32", b.define("b32", "shr.u32", tile, 4))
    desc = b.define("b64", "or.b64", start, 8 << 16 | 16 << 32)
    if fence:
        b.emit("wgmma.fence.sync.aligned")
    true = b.define("pred", "setp.eq.u32", 0, 0)
    b.emit("wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16", d, desc, desc, true, 1, 1, 0, 0)
    if commit:
        b.emit("wgmma.commit_group.sync.aligned")
    if touch:
        b.emit("add.f32", d[0], d[0], 1.0)
    if waits is not None:
        b.emit("wgmma.wait_group.sync.aligned", waits)
    b.emit("st.global.v4.f32", addr(index(b, to, 16)), d)
    b.emit("ret")
    return b


@pytest.mark.parametrize("mode, seed", MODES)
def test_wgmma_synchronised(mode, seed):
    out = np.zeros((128, 4), np.float32)
    assert not run(product(), [out], block=128, mode=mode, seed=seed).reports
    assert (out == 1).all()


@pytest.mark.parametrize(
    "fault, code",
    [({"fence": False}, "E6"), ({"commit": False}, "E5"), ({"waits": None}, "E5"), ({"waits": 1}, "E7"),
     ({"touch": True}, "E5")],
)  # fmt: skip
@pytest.mark.parametrize("mode, seed", MODES)
def test_wgmma_hazards(fault, code, mode, seed):
    with pytest.raises(RaceError) as e:
        run(product(**fault), [np.zeros((128, 4), np.float32)], block=128, mode=mode, seed=seed)
    assert e.value.code == code


def test_too_many_arrivals():
    b = builder()
    bar = shared(b, b.shared("bar", 8))
    once(b, lambda: b.emit("mbarrier.init.shared::cta.b64", addr(bar), 40))
    b.emit("bar.sync", 0)
    b.emit("mbarrier.arrive.shared::cta.b64", b.reg("b64"), addr(bar), 1)
    b.emit("ret")
    assert _error(b) == ""
    b = builder()
    bar = shared(b, b.shared("bar", 8))
    once(b, lambda: b.emit("mbarrier.init.shared::cta.b64", addr(bar), 3))
    b.emit("bar.sync", 0)
    b.emit("mbarrier.arrive.shared::cta.b64", b.reg("b64"), addr(bar), 2)
    b.emit("ret")
    assert _error(b) == "E9"


def _error(b: Any) -> str:
    try:
        run(b, [])
    except (EmulatorError, RaceError) as e:
        return e.code
    return ""


@pytest.mark.parametrize("offset, code", [(0, ""), (128, "D410"), (2, "D411"), (-4, "D410")])
def test_global_accesses_are_checked(offset, code):
    b = builder()
    base = pointer(b)
    value = b.define("b32", "ld.global.b32", addr(base, offset))
    b.emit("st.global.b32", addr(base), value)
    b.emit("ret")
    try:
        run(b, [np.zeros(32, np.uint32)])
        found = ""
    except EmulatorError as e:
        found = e.code
    assert found == code


def test_uninitialised_shared_memory_is_reported():
    b = builder()
    tile = shared(b, b.shared("tile", 128))
    b.define("b32", "ld.shared.b32", addr(tile))
    b.emit("ret")
    assert [r.code for r in run(b, []).reports] == ["W24"]


@pytest.mark.parametrize("low, high, fits", [(24, 240, True), (32, 240, False), (40, 224, True)])
def test_register_pool(low, high, fits):
    """384 threads that start with 168 registers each: one warpgroup gives, two take."""
    b = builder()
    b.directive("maxnreg", 168)
    worker, end = b.label("worker"), b.label("end")
    b.emit("bra", worker, pred=b.define("pred", "setp.ge.u32", b.define("b32", "mov.u32", TID), 128))
    b.emit("setmaxnreg.dec.sync.aligned.u32", low)
    b.emit("bra", end)
    b.place(worker)
    b.emit("setmaxnreg.inc.sync.aligned.u32", high)
    b.place(end)
    b.emit("ret")
    if fits:
        run(b, [], block=384)
    else:
        with pytest.raises(DeadlockError, match="registers; the pool"):
            run(b, [], block=384)


@pytest.mark.parametrize("mode, seed", MODES)
def test_cp_async_groups(mode, seed):
    data, out = np.arange(64, dtype=np.uint32), np.zeros(64, np.uint32)
    b = builder()
    source, to = pointer(b), pointer(b)
    tile = shared(b, b.shared("tile", 256))
    lane = b.define("b32", "mov.u32", TID)
    place = b.define("b32", "mad.lo.u32", lane, 4, tile)
    for i in range(2):
        b.emit("cp.async.ca.shared.global", addr(place, 128 * i), addr(index(b, source, 4), 128 * i), 4)
        b.emit("cp.async.commit_group")
    for i in range(2):
        b.emit("cp.async.wait_group", 1 - i)
        value = b.define("b32", "ld.shared.b32", addr(place, 128 * i))
        b.emit("st.global.b32", addr(index(b, to, 4), 128 * i), value)
    b.emit("ret")
    assert not run(b, [data, out], mode=mode, seed=seed).reports
    assert (out == data).all()


def test_unknown_instructions_are_refused():
    text = builder()
    text.emit("ret")
    program = text.text().replace("ret;", "brkpt;\n    ret;")
    with pytest.raises(UnsupportedError, match="brkpt"):
        run(program, [])
