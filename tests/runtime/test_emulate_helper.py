"""tilec.testing.emulate: kernels of any compiler in a user's tests."""

from __future__ import annotations

import numpy as np
import pytest

from tilec.ir.errors import DeadlockError, RaceError, TilecError
from tilec.testing import MODES, Map, Packed, emulate, run_once

HEAD = ".version 8.0\n.target sm_90a\n.address_size 64\n"

# Adds a struct {pointer, i32 bias, f32 scale} to an array in place.
STRUCT = (
    HEAD
    + """
.visible .entry scale(.param .align 8 .b8 s[16])
{
.reg .b32 %r<4>; .reg .b64 %d<3>; .reg .f32 %f<4>;
mov.u32 %r1, %tid.x; ld.param.u64 %d1, [s]; ld.param.s32 %r2, [s+8]; ld.param.f32 %f1, [s+12];
mad.wide.u32 %d2, %r1, 4, %d1; ld.global.f32 %f2, [%d2]; cvt.rn.f32.s32 %f3, %r2;
fma.rn.f32 %f2, %f2, %f1, %f3; st.global.f32 [%d2], %f2; ret;
}
.visible .entry other() { ret; }
"""
)

# Thread i writes shared memory, thread 31 - i reads it; BARRIER is between.
TURN = (
    HEAD
    + """
.visible .entry turn(.param .u64 out)
{
.shared .align 4 .b8 tile[256]; .reg .b32 %r<8>; .reg .b64 %d<3>;
mov.u32 %r1, %tid.x; mov.u32 %r2, tile; mad.lo.u32 %r3, %r1, 4, %r2; st.shared.b32 [%r3], %r1;
BARRIER
sub.u32 %r4, 63, %r1; mad.lo.u32 %r5, %r4, 4, %r2; ld.shared.b32 %r6, [%r5];
ld.param.u64 %d1, [out]; mad.wide.u32 %d2, %r1, 4, %d1; st.global.b32 [%d2], %r6; ret;
}
"""
)


def test_every_mode_starts_from_the_same_arrays():
    x = np.arange(32, dtype=np.float32)
    wanted = x * 0.5 + 3
    outcomes = emulate(STRUCT, 1, 32, [Packed("<Qif", (x, 3, 0.5))], entry="scale")
    assert (x == wanted).all() and len(outcomes) == len(MODES)


def test_results_are_compared():
    out = np.zeros(64, np.int32)
    good = TURN.replace("BARRIER", "bar.sync 0;")
    emulate(good, grid=1, block=64, args=[out], expect={0: np.arange(64)[::-1]})
    with pytest.raises(AssertionError, match="argument 0") as e:
        emulate(good, grid=1, block=64, args=[out], expect={0: np.arange(64)})
    assert "in mode 'eager' of turn" in e.value.__notes__


def test_a_race_is_an_error():
    out = np.zeros(64, np.int32)
    with pytest.raises(RaceError) as e:
        emulate(TURN.replace("BARRIER", ""), 1, 64, [out])
    assert e.value.code in ("E3", "E4")
    outcome = run_once(TURN.replace("BARRIER", ""), "", 1, 64, [out], strict=False)
    assert outcome.reports


def test_a_deadlock_is_an_error():
    half = """.visible .entry half() { .reg .b32 %r<2>; .reg .pred %p<2>; mov.u32 %r1, %tid.x;
setp.lt.u32 %p1, %r1, 32; @%p1 bar.sync 0, 64; ret; }"""
    with pytest.raises(DeadlockError, match="bar"):
        emulate(HEAD + half, 1, 64, [])


def test_a_map_places_its_array_once():
    x = np.arange(64, dtype=np.uint8).reshape(4, 16)
    m = Map(x, (2, 16), swizzle="none")
    text = (
        HEAD
        + """
.visible .entry k(.param .align 64 .b8 map[128], .param .u64 x)
{
.reg .b32 %r<3>; .reg .b64 %d<3>;
mov.b64 %d1, map; cvta.param.u64 %d1, %d1; ld.global.b64 %d2, [%d1]; ld.param.u64 %d1, [x];
sub.u64 %d1, %d1, %d2; st.global.u64 [%d2], %d1; ret;
}"""
    )
    emulate(text.replace("ld.global.b64", "ld.b64"), 1, 1, [m, x], modes=["eager"])
    assert not x.view(np.uint64)[0, 0]


@pytest.mark.parametrize("args, code", [
    ([np.zeros((4, 4), np.int32)[:, ::2]], "V422"), ([np.zeros(64, np.int32), 1], "V423"), ([b"12"], "V424"),
    ([Map(np.zeros((4, 3), np.uint8), (1,))], "V422"),
    ([Map(np.zeros((4, 3), np.uint8), (1, 3), element="UINT16")], "V422"),
])  # fmt: skip
def test_arguments_that_do_not_fit(args, code):
    with pytest.raises(TilecError) as e:
        emulate(TURN.replace("BARRIER", ""), 1, 64, args)
    assert e.value.code == code


def test_a_mode_and_an_entry_must_exist():
    with pytest.raises(TilecError, match="no mode 'random:x'"):
        emulate(STRUCT, 1, 1, [], entry="other", modes=["random:x"])
    with pytest.raises(TilecError, match="2 entries and no name; the PTX has scale, other"):
        emulate(STRUCT, 1, 1, [])
