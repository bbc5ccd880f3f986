"""Warps that part at barriers, clusters that wait for one another, and threads that spin for ever."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from emulator_kit import MODES

from tilec.ir.errors import DeadlockError
from tilec.runtime.emulator.trace import Trace
from tilec.testing import emulate, run_once

HEAD = """.version 8.6
.target sm_90a
.address_size 64
.visible .entry k(.param .u64 out) {
    .reg .pred %p<4>;
    .reg .b32 %r<16>;
    .reg .b64 %rd<16>;
    .shared .align 16 .b8 tile[1024];
    ld.param.u64 %rd0, [out];
    cvta.to.global.u64 %rd0, %rd0;
    mov.u32 %r0, %tid.x;
    mov.u32 %r1, %ctaid.x;
    mov.u32 %r2, tile;
    mad.lo.u32 %r3, %r0, 4, %r2;
    mov.u32 %r4, %ntid.x;
    mad.lo.u32 %r5, %r1, %r4, %r0;
    mad.wide.u32 %rd1, %r5, 4, %rd0;
"""


def program(body: str) -> str:
    return HEAD + body + "\n}\n"


PARTED = program("""
    st.shared.u32 [%r3], %r0;
    setp.eq.u32 %p0, %r0, 5;
    @%p0 bra ONE;
    barrier.sync 0;
    bra DONE;
ONE:
    st.shared.u32 [%r3], 77;
    barrier.sync 0;
DONE:
    xor.b32 %r6, %r0, 36;
    mad.lo.u32 %r6, %r6, 4, %r2;
    ld.shared.u32 %r7, [%r6];
    st.global.u32 [%rd1], %r7;
    ret;""")


@pytest.mark.parametrize("mode, seed", MODES)
def test_a_warp_arrives_at_a_barrier_with_the_last_of_its_threads(mode: Any, seed: int) -> None:
    """Thread 5 comes to another barrier.sync than the others of its warp, and later."""
    out = np.zeros(64, np.uint32)
    run_once(PARTED, "k", 1, 64, [out], mode=f"{mode}:{seed}")
    want = np.arange(64) ^ 36
    want[5 ^ 36] = 77
    assert (out == want).all()


ENDED = program("""
    st.shared.u32 [%r3], %r0;
    setp.lt.u32 %p0, %r0, 8;
    @%p0 bra STAY;
    setp.lt.u32 %p0, %r0, 32;
    @%p0 bra GONE;
STAY:
    barrier.sync 0;
    ld.shared.u32 %r7, [tile+4];
    st.global.u32 [%rd1], %r7;
GONE:
    ret;""")


@pytest.mark.parametrize("mode, seed", MODES)
def test_threads_that_have_ended_do_not_hold_up_their_warp(mode: Any, seed: int) -> None:
    out = np.zeros(64, np.uint32)
    run_once(ENDED, "k", 1, 64, [out], mode=f"{mode}:{seed}")
    assert (out == np.where((np.arange(64) < 8) | (np.arange(64) > 31), 1, 0)).all()


def test_an_arrival_waits_for_the_other_threads_of_its_warp() -> None:
    """A warp arrives once, whichever of its threads come first; the other one waits for it."""
    body = """
    setp.ge.u32 %p1, %r0, 32;
    @%p1 bra WAITS;
    setp.eq.u32 %p0, %r0, 3;
    @%p0 st.shared.u32 [%r3], 9;
    @%p0 bra ONE;
    barrier.arrive 1, 64;
    ret;
ONE:
    barrier.arrive 1, 64;
    ret;
WAITS:
    barrier.sync 1, 64;
    ld.shared.u32 %r7, [tile+12];
    st.global.u32 [%rd1], %r7;
    ret;"""
    out = np.zeros(64, np.uint32)
    emulate(program(body), 1, 64, [out], expect={0: np.where(np.arange(64) < 32, 0, 9)})


WARP = program("""
    st.shared.u32 [%r3], 0;
    bar.warp.sync -1;
    setp.lt.u32 %p0, %r0, 16;
    st.shared.u32 [%r3], %r0;
    @%p0 bra LOW;
    bar.warp.sync 0xFFFFFFFF; // high
    ld.shared.u32 %r7, [%r3+-64];
    bra DONE;
LOW:
    bar.warp.sync 0xFFFFFFFF; // low
    ld.shared.u32 %r7, [%r3+64];
DONE:
    st.global.u32 [%rd1], %r7;
    ret;""")


@pytest.mark.parametrize("mode, seed", MODES)
def test_lanes_meet_at_different_warp_barriers(mode: Any, seed: int) -> None:
    out = np.zeros(32, np.uint32)
    run_once(WARP, "k", 1, 32, [out], mode=f"{mode}:{seed}")
    assert (out == np.arange(32) ^ 16).all()


def test_a_lane_may_read_what_it_wrote_itself_as_others_did() -> None:
    """All lanes write one value to one place: each of them may read it, and write it again."""
    body = """
    st.shared.u32 [tile], 3;
    ld.shared.u32 %r7, [tile];
    st.shared.u32 [tile], %r7;
    st.global.u32 [%rd1], %r7;
    ret;"""
    assert not any(o.reports for o in emulate(program(body), 1, 32, [np.zeros(32, np.uint32)]))


# The first CTA waits for a flag that the second sets, and then reads what it wrote.
LATER = program("""
    setp.ne.u32 %p0, %r0, 0;
    @%p0 bra DONE;
    setp.ne.u32 %p1, %r1, 0;
    @%p1 bra SETS;
SPIN:
    ld.acquire.gpu.global.u32 %r6, [%rd0+400];
    setp.eq.u32 %p2, %r6, 0;
    @%p2 bra SPIN;
    ld.global.u32 %r7, [%rd0+404];
    st.global.u32 [%rd0], %r7;
    bra DONE;
SETS:
    st.global.u32 [%rd0+404], 42;
    st.release.gpu.global.u32 [%rd0+400], 1;
DONE:
    ret;""")


@pytest.mark.parametrize("mode, seed", MODES)
def test_a_cluster_may_wait_for_a_later_one(mode: Any, seed: int) -> None:
    out, trace = np.zeros(128, np.uint32), Trace()
    outcome = run_once(LATER, "k", 2, 32, [out], mode=f"{mode}:{seed}", trace=trace)
    assert out[0] == 42 and not outcome.reports
    # What the first try did is in neither the trace nor the count.
    assert outcome.steps >= max(step for step, *_ in trace.steps)


def test_a_relaxed_flag_between_clusters_side_by_side_is_e27() -> None:
    bad = LATER.replace("ld.acquire", "ld.relaxed")
    reports = run_once(bad, "k", 2, 32, [np.zeros(128, np.uint32)], strict=False).reports
    assert [r.code for r in reports] == ["E27"]


GRID = program("""
    st.global.u32 [%rd1], %r5;
    mov.u32 %r6, %envreg2;
    mov.u32 %r7, %envreg1;
    mov.b64 %rd2, {%r6, %r7};
    mov.u32 %r8, %nctaid.x;
    barrier.sync 0;
    setp.ne.u32 %p0, %r0, 0;
    @%p0 bra MEET;
    atom.add.release.gpu.u32 %r9, [%rd2+4], 1;
SPIN:
    ld.acquire.gpu.u32 %r9, [%rd2+4];
    setp.lt.u32 %p1, %r9, %r8;
    @%p1 bra SPIN;
MEET:
    barrier.sync 0;
    mul.lo.u32 %r10, %r8, %r4;
    sub.u32 %r10, %r10, 1;
    sub.u32 %r10, %r10, %r5;
    mad.wide.u32 %rd3, %r10, 4, %rd0;
    ld.global.u32 %r11, [%rd3];
    mad.wide.u32 %rd4, %r5, 4, %rd0;
    st.global.u32 [%rd4+2048], %r11;
    ret;""")


def test_a_grid_meets_through_the_workspace_of_cooperative_groups() -> None:
    out = np.zeros(1024, np.uint32)
    want = out.copy()
    want[:320], want[512:832] = np.arange(320), np.arange(320)[::-1]
    emulate(GRID, 10, 32, [out], expect={0: want})


@pytest.mark.parametrize("mode", ["eager", "lazy", "random:3"])
@pytest.mark.parametrize("poll", ["ld.relaxed.gpu.global.u32 %r6, [%rd0];",
                                  "atom.global.add.u32 %r6, [%rd0], 0;",
                                  "atom.global.cas.b32 %r6, [%rd0], 1, 0;"])  # fmt: skip
def test_threads_that_only_repeat_themselves_end_the_run(mode: str, poll: str) -> None:
    body = f"""
    setp.ne.u32 %p0, %r0, 0;
    @%p0 bra DONE;
SPIN:
    {poll}
    setp.eq.u32 %p2, %r6, 0;
    @%p2 bra SPIN;
DONE:
    ret;"""
    with pytest.raises(DeadlockError, match="repeat themselves") as error:
        run_once(program(body), "k", 1, 32, [np.zeros(4, np.uint32)], mode=mode)
    assert error.value.code == "D416"


def test_a_long_computation_is_no_endless_loop() -> None:
    body = """
    mov.u32 %r6, 0;
LOOP:
    add.u32 %r6, %r6, 1;
    setp.lt.u32 %p2, %r6, 6000;
    @%p2 bra LOOP;
    st.global.u32 [%rd1], %r6;
    ret;"""
    out = np.zeros(32, np.uint32)
    run_once(program(body), "k", 1, 32, [out])
    assert (out == 6000).all()


def test_clocks_count_and_warps_have_32_lanes() -> None:
    body = """
    mov.u64 %rd2, %clock64;
    mov.u64 %rd3, %globaltimer;
    mov.u32 %r6, %clock;
    mov.u32 %r7, %clock;
    sub.u32 %r7, %r7, %r6;
    mov.u32 %r8, WARP_SZ;
    st.global.v2.u32 [%rd0], {%r7, %r8};
    ret;"""
    out = np.zeros(2, np.uint32)
    run_once(program(body), "k", 1, 1, [out])
    assert out[0] > 0 and out[1] == 32


@pytest.mark.parametrize("mode, seed", MODES)
def test_a_single_try_wait_gives_up_where_nothing_else_can_go_on(mode: Any, seed: int) -> None:
    """CUTLASS asks for the next stage before it fills this one."""
    body = """
    mbarrier.init.shared::cta.b64 [tile], 1;
    mbarrier.try_wait.parity.shared::cta.b64 %p0, [tile], 0;
    selp.u32 %r6, 1, 0, %p0;
    mbarrier.arrive.shared::cta.b64 _, [tile];
    mbarrier.try_wait.parity.shared::cta.b64 %p1, [tile], 0;
    selp.u32 %r7, 1, 0, %p1;
    st.global.v2.u32 [%rd0], {%r6, %r7};
    ret;"""
    out = np.full(2, 9, np.uint32)
    run_once(program(body), "k", 1, 1, [out], mode=f"{mode}:{seed}", strict=False)
    assert out[0] == 0 and (out[1] == 1 or mode == "random")
