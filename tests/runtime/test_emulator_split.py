"""Clusters in several processes: the same values, reports and counts as in turn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tilec.ir.errors import TilecError
from tilec.ir.ptx.parser import parse
from tilec.runtime.emulator import split
from tilec.runtime.emulator.arguments import Arguments
from tilec.runtime.emulator.launch import run_ptx
from tilec.runtime.emulator.spaces import GlobalMemory

HEAD = """.version 8.6
.target sm_90a
.address_size 64
.extern .func (.param .b32 r) vprintf (.param .b64 f, .param .b64 a);
.global .align 1 .b8 text[9] = {67, 84, 65, 32, 37, 117, 59, 32};
.visible .entry k(.param .u64 out) {
    .reg .pred %p<4>;
    .reg .b32 %r<16>;
    .reg .b64 %rd<16>;
    .local .align 8 .b8 stack[8];
    .shared .align 16 .b8 tile[256];
    ld.param.u64 %rd0, [out];
    cvta.to.global.u64 %rd0, %rd0;
    mov.u32 %r0, %tid.x;
    mov.u32 %r1, %ctaid.x;
    mad.lo.u32 %r5, %r1, 32, %r0;
    mad.wide.u32 %rd1, %r5, 4, %rd0;
    mov.u32 %r6, tile;
"""
# Each CTA writes its own elements; odd ones read shared memory that nothing has written.
APART = """
    and.b32 %r2, %r1, 1;
    setp.eq.u32 %p0, %r2, 0;
    mov.u32 %r3, 0;
    @%p0 bra EVEN;
    ld.shared.u32 %r3, [tile];
    and.b32 %r3, %r3, 0;
EVEN:
    add.u32 %r3, %r3, %r5;
    ld.global.u32 %r4, [%rd1];
    mad.lo.u32 %r3, %r4, 3, %r3;
    st.global.u32 [%rd1], %r3;
    setp.ne.u32 %p1, %r0, 0;
    @%p1 ret;
    st.local.u32 [stack], %r1;
    mov.u64 %rd2, text;
    cvta.global.u64 %rd2, %rd2;
    mov.u64 %rd3, stack;
    cvta.local.u64 %rd3, %rd3;
    { .param .b64 f; .param .b64 a; .param .b32 r;
    st.param.b64 [f], %rd2;
    st.param.b64 [a], %rd3;
    call.uni (r), vprintf, (f, a); }
    ret;"""
# CTA n reads what CTA n - 1 writes.
CHAIN = """
    setp.eq.u32 %p0, %r1, 0;
    mov.u32 %r3, 1;
    @%p0 bra FIRST;
    ld.global.u32 %r3, [%rd1+-128];
FIRST:
    add.u32 %r3, %r3, %r3;
    st.global.u32 [%rd1], %r3;
    ret;"""
# All CTAs write the same place.
SAME = """
    mad.wide.u32 %rd2, %r0, 4, %rd0;
    st.global.u32 [%rd2], %r1;
    ret;"""
# A bulk store of each CTA reaches into the elements of the next one.
REACH = """
    setp.ne.u32 %p0, %r0, 0;
    mad.lo.u32 %r7, %r0, 4, %r6;
    st.shared.u32 [%r7], %r1;
    st.shared.u32 [%r7+128], %r1;
    fence.proxy.async.shared::cta;
    bar.sync 0;
    @%p0 ret;
    cp.async.bulk.global.shared::cta.bulk_group [%rd1], [%r6], 144;
    cp.async.bulk.commit_group;
    cp.async.bulk.wait_group 0;
    ret;"""
TRAP = """
    setp.ne.u32 %p0, %r1, 5;
    st.global.u32 [%rd1], %r1;
    @%p0 ret;
    trap;"""


def outcome(body: str, processes: int, mode: Any = "eager", grid: int = 8) -> tuple[Any, Any]:
    """(everything that a run gives, the array)."""
    out = np.arange(32 * grid + 32, dtype=np.uint32)
    module, memory = parse(HEAD + body + "\n}\n"), GlobalMemory()
    entry = module.entry("k")
    assert entry is not None
    bound = Arguments(entry, [out], memory)
    try:
        result: Any = run_ptx(module, "k", (grid,), (32,), bound.params, memory, mode=mode, seed=3,
                              strict=False, processes=processes)  # fmt: skip
    except TilecError as error:
        result = (error.code, error.message)
    bound.read_back()
    return result, out


@pytest.fixture
def tries(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each attempt to split succeeded."""
    found: list[bool] = []
    run = split.run

    def spy(machine: Any) -> bool:
        found.append(run(machine))
        return found[-1]

    monkeypatch.setattr(split, "run", spy)
    return found


@pytest.mark.parametrize("mode", ["eager", "lazy", "random"])
def test_clusters_that_stay_apart_are_split(mode: Any, tries: list[bool]) -> None:
    alone, values = outcome(APART, 1, mode)
    assert tries == []
    assert [r.code for r in alone.reports] == ["W24"]
    assert alone.printed == "".join(f"CTA {i}; " for i in range(8))
    n = np.arange(256)
    np.testing.assert_array_equal(values[:256], 4 * n)
    for processes in (2, 3, 8, 20):
        result, got = outcome(APART, processes, mode)
        assert result == alone
        np.testing.assert_array_equal(got, values)
    assert tries == [True] * 4


@pytest.mark.parametrize("body, codes", [(CHAIN, ["E27"]), (SAME, ["E27"]), (REACH, ["E27"])])
def test_clusters_that_meet_run_in_turn(body: str, codes: list[str], tries: list[bool]) -> None:
    alone, values = outcome(body, 1)
    assert [r.code for r in alone.reports] == codes
    result, got = outcome(body, 2)
    assert tries == [False]
    assert result == alone
    np.testing.assert_array_equal(got, values)


def test_a_cluster_that_fails_stops_the_run_where_it_would_in_turn(tries: list[bool]) -> None:
    alone, values = outcome(TRAP, 1)
    assert alone[0] == "D414"
    result, got = outcome(TRAP, 3)
    assert (result, tries) == (alone, [False])
    np.testing.assert_array_equal(got, values)
    assert got[5 * 32] == 5
    assert got[6 * 32] == 6 * 32  # CTA 6 has not run


@pytest.mark.parametrize("line, is_split", [
    ("red.global.add.u32 [%rd0], 1;", False),
    ("red.shared.add.u32 [tile], 1;", True),
    ("ld.acquire.gpu.global.u32 %r3, [%rd1];", False),
    ("ld.volatile.global.u32 %r3, [%rd1];", False),
    ("mov.u32 %r3, %clock;", False),
    ("mov.u32 %r3, %nctaid.x;", True),
])  # fmt: skip
def test_kernels_whose_clusters_talk_are_not_tried(line: str, is_split: bool, tries: list[bool]) -> None:
    outcome(f"{line} st.global.u32 [%rd1], %r5; ret;", 2)
    assert tries == [True] * is_split


def test_the_environment_chooses(monkeypatch: pytest.MonkeyPatch, tries: list[bool]) -> None:
    monkeypatch.setenv("TILEC_EMULATOR_PROCESSES", "2")
    module, memory = parse(HEAD + SAME + "\n}\n"), GlobalMemory()
    params = memory.add(128).to_bytes(8, "little")
    run_ptx(module, "k", (1,), (32,), params, memory)
    assert tries == []  # one cluster
    run_ptx(module, "k", (2,), (32,), params, memory, strict=False)
    assert tries == [False]


def test_by_default_a_short_grid_is_not_split(tries: list[bool]) -> None:
    module, memory = parse(HEAD + APART + "\n}\n"), GlobalMemory()
    params = memory.add(4096).to_bytes(8, "little")
    run_ptx(module, "k", (2,), (32,), params, memory)
    assert tries == []
