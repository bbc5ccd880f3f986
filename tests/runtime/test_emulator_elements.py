"""Tensor maps whose elements change on their way: packed groups of 4 and 6 bits, rounded floats,
and swizzles that keep 32 or 64 bytes together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tilec.ir.errors import TilecError
from tilec.testing import Map, run_once

TEXT = """.version 8.7
.target sm_100a
.address_size 64
.visible .entry k(.param .align 64 .b8 in[128], .param .u64 out) {
    .reg .pred %p<2>;
    .reg .b32 %r<8>;
    .reg .b64 %rd<8>;
    .shared .align 1024 .b8 tile[8192];
    .shared .align 8 .b8 bar[8];
    mov.b64 %rd0, in;
    cvta.param.u64 %rd0, %rd0;
    ld.param.u64 %rd1, [out];
    cvta.to.global.u64 %rd1, %rd1;
    mov.u32 %r0, %tid.x;
    setp.ne.u32 %p0, %r0, 0;
    @%p0 bra READY;
    mbarrier.init.shared::cta.b64 [bar], 1;
    fence.mbarrier_init.release.cluster;
    mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], BYTES;
    cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [tile], [%rd0, {FIRST, 0}], [bar];
READY:
    bar.sync 0;
WAIT:
    mbarrier.try_wait.parity.shared::cta.b64 %p1, [bar], 0;
    @!%p1 bra WAIT;
    mov.u32 %r1, tile;
    mad.lo.u32 %r1, %r0, 16, %r1;
    mad.wide.u32 %rd2, %r0, 16, %rd1;
LOOP:
    ld.shared.v4.u32 {%r2, %r3, %r4, %r5}, [%r1];
    st.global.v4.u32 [%rd2], {%r2, %r3, %r4, %r5};
    add.u32 %r1, %r1, 512;
    add.u64 %rd2, %rd2, 512;
    add.u32 %r6, %r1, 0;
    mov.u32 %r7, tile+ROOM;
    setp.lt.u32 %p1, %r6, %r7;
    @%p1 bra LOOP;
    ret;
}
"""  # noqa: E501


def landed(source: Map, room: int, counted: int, first: int = 0) -> Any:
    """What a load of the box at (first, 0) leaves in shared memory."""
    out = np.zeros(room, np.uint8)
    values = {"BYTES": counted, "FIRST": first, "ROOM": room}
    text = TEXT
    for name, value in values.items():
        text = text.replace(name, str(value))
    run_once(text, "k", 1, 32, [source, out], mode="random:1")
    return out


def packed(bits: int, rows: int) -> Any:
    return np.random.default_rng(bits).integers(0, 256, (rows, 256 * bits // 8)).astype(np.uint8)


@pytest.mark.parametrize("bits, element", [(4, "16U4_ALIGN16B"), (6, "16U6_ALIGN16B")])
def test_groups_of_16_elements_are_padded_to_16_bytes(bits: int, element: str) -> None:
    """The mbarrier counts the bytes of the elements, not the padding."""
    a = packed(bits, 8)
    counted = 8 * 128 * bits // 8
    got = landed(Map(a, (8, 128), element=element), 1024, counted, first=128).reshape(8, 8, 16)
    want = a.reshape(8, 16, 2 * bits)[:, 8:]
    assert (got[:, :, : 2 * bits] == want).all()


def test_groups_may_be_packed() -> None:
    a = packed(4, 16)
    got = landed(Map(a, (16, 64), element="16U4_ALIGN8B"), 512, 512, first=64)
    assert (got.reshape(16, 32) == a[:, 32:64]).all()


@pytest.mark.parametrize("box, first, words", [
    ((8, 64), 0, "not 128 elements"), ((8, 128), 64, "no multiple of 128"),
])  # fmt: skip
def test_what_padded_groups_need(box: tuple[int, int], first: int, words: str) -> None:
    with pytest.raises(TilecError, match=words):
        landed(Map(packed(4, 8), box, element="16U4_ALIGN16B"), 2048, 512, first)


@pytest.mark.parametrize("atom, where", [
    ("128B_ATOM_32B", lambda row, unit: unit ^ (row % 4 * 2)),
    ("128B_ATOM_64B", lambda row, unit: unit ^ (row % 2 * 4)),
])  # fmt: skip
def test_swizzles_that_keep_more_bytes_together(atom: str, where: Any) -> None:
    """The tables of the PTX ISA manual, "Swizzling modes"."""
    a = np.random.default_rng(1).integers(0, 256, (16, 128)).astype(np.uint8)
    got = landed(Map(a, (16, 128), atom), 2048, 2048).reshape(16, 8, 16)
    for row in range(16):
        for unit in range(8):
            assert (got[row, where(row, unit)] == a[row, 16 * unit : 16 * unit + 16]).all()


def test_tf32_rounds_to_nearest_even_and_ftz_flushes() -> None:
    bits = np.array([0x3F800FFF, 0x3F801000, 0x3F803000, 0xBF801001, 0x7F800000, 0x7FC01234, 0x00000001,
                     0x807FFFFF], np.uint32)  # fmt: skip
    a = np.tile(bits.view(np.float32), (8, 8))
    want = np.array([0x3F800000, 0x3F800000, 0x3F804000, 0xBF802000, 0x7F800000, 0x7FC01234, 0, 0x80800000])
    got = landed(Map(a, (8, 64), element="TFLOAT32"), 2048, 2048).view(np.uint32)
    assert (got.reshape(8, 8, 8) == want).all()
    flushed = landed(Map(a, (8, 64), element="FLOAT32_FTZ"), 2048, 2048).view(np.uint32).reshape(8, 8, 8)
    assert (flushed[..., 6:] == [0, 0x80000000]).all() and (flushed[..., :6] == bits[:6]).all()


def test_a_store_that_all_lanes_of_a_warp_issue_is_one() -> None:
    text = (
        TEXT.split("READY:")[0].split("    setp.ne")[0].replace("in[128]", "to[128]").replace(", in", ", to")
    )
    text += """
    mov.u32 %r1, tile;
    mad.lo.u32 %r2, %r0, 4, %r1;
    st.shared.u32 [%r2], %r0;
    fence.proxy.async.shared::cta;
    bar.warp.sync -1;
    cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%rd0, {0, 0}], [tile];
    cp.async.bulk.commit_group;
    cp.async.bulk.wait_group 0;
    ret;
}
"""
    out = np.zeros((1, 32), np.uint32)
    assert not run_once(text, "k", 1, 32, [Map(out, (1, 32)), np.zeros(1, np.uint32)]).reports
    assert (out == np.arange(32)).all()
