"""`tilec emulate`: arguments, reports, exit codes, traces."""

from __future__ import annotations

import json

import ml_dtypes
import numpy as np
import pytest
from click.testing import CliRunner, Result

from tilec.cli import main
from tilec.cli_arguments import parse_argument
from tilec.ir.errors import TilecError

SAXPY = """
.version 8.0
.target sm_90a
.address_size 64
.visible .entry saxpy(.param .u64 x, .param .u64 y, .param .f32 a, .param .u32 n)
{
.reg .pred %p<2>; .reg .b32 %r<8>; .reg .b64 %d<6>; .reg .f32 %f<5>;
ld.param.u64 %d1, [x]; ld.param.u64 %d2, [y]; ld.param.f32 %f1, [a]; ld.param.u32 %r1, [n];
mov.u32 %r2, %ctaid.x; mov.u32 %r3, %ntid.x; mov.u32 %r4, %tid.x;
mad.lo.u32 %r5, %r2, %r3, %r4;
setp.ge.u32 %p1, %r5, %r1;
@%p1 bra done;
mad.wide.u32 %d3, %r5, 4, %d1; mad.wide.u32 %d4, %r5, 4, %d2;
ld.global.f32 %f2, [%d3]; ld.global.f32 %f3, [%d4];
fma.rn.f32 %f4, %f1, %f2, %f3;
st.global.f32 [%d4], %f4;
done: ret;
}
"""

# Loads a box of 8 x 16 bytes and copies it out; WAIT is the wait for it.
BOX = """
.version 8.0
.target sm_90a
.address_size 64
.visible .entry box(.param .align 64 .b8 map[128], .param .u64 out)
{
.shared .align 128 .b8 tile[128]; .shared .align 8 .b64 bar;
.reg .pred %p<3>; .reg .b32 %r<6>; .reg .b64 %d<6>;
mov.u32 %r1, %tid.x; setp.ne.u32 %p1, %r1, 0;
mov.u32 %r2, tile; mov.u32 %r3, bar;
@%p1 bra ready;
mbarrier.init.shared::cta.b64 [%r3], 1;
fence.mbarrier_init.release.cluster;
fence.proxy.async.shared::cta;
ready: bar.sync 0;
@%p1 bra loaded;
mbarrier.arrive.expect_tx.shared::cta.b64 %d1, [%r3], 128;
mov.b64 %d2, map; cvta.param.u64 %d2, %d2; mov.u32 %r4, 0;
cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%r2], [%d2, {%r4, %r4}], [%r3];
loaded:
WAIT
ld.param.u64 %d3, [out]; mad.wide.u32 %d3, %r1, 4, %d3; mad.lo.u32 %r5, %r1, 4, %r2;
ld.shared.b32 %r4, [%r5]; st.global.b32 [%d3], %r4;
ret;
}
"""
WAIT = "again: mbarrier.try_wait.parity.shared::cta.b64 %p2, [%r3], 0;\n@!%p2 bra again;"


@pytest.fixture
def emulate(tmp_path):
    """Runs a text with arguments; files land beside it."""

    def run(text: str, *arguments: str) -> Result:
        path = tmp_path / "k.ptx"
        path.write_text(text)
        return CliRunner().invoke(main, ["emulate", str(path), *arguments])

    return run


SAXPY_ARGS = ("--grid", "2", "--block", "64", "--args", "f32[100]:arange f32[100]:ones 2.0 100")


@pytest.mark.parametrize("mode", [(), ("--mode", "lazy"), ("--mode", "random", "--seed", "7")])
def test_a_kernel_runs(emulate, tmp_path, mode):
    result = emulate(SAXPY, *SAXPY_ARGS, *mode, "-o", str(tmp_path / "out"))
    assert result.exit_code == 0, result.output
    assert (np.load(tmp_path / "out" / "arg1.npy") == 2 * np.arange(100, dtype=np.float32) + 1).all()
    assert "argument 1: float32[100] = 1, 3, 5, 7, ... (sum 10000)" in result.output


def test_json(emulate):
    result = emulate(SAXPY, *SAXPY_ARGS, "--format", "json")
    found = json.loads(result.output)
    assert found["finished"] and found["reports"] == [] and found["steps"] > 20


def test_steps_and_traffic(emulate):
    result = emulate(SAXPY, *SAXPY_ARGS, "--steps", "--traffic")
    assert "CTA (1, 0, 0) warp" in result.output and "fma.rn.f32 %f4, %f1, %f2, %f3;" in result.output
    assert "global memory: 13 transactions where 13 would do" in result.output


def test_a_tensor_map_and_a_trace(emulate, tmp_path):
    box = ("--block", "32", "--args", "map(u8[8,16]:random,box=8x16) i32[32]", "--mode", "lazy")
    trace = tmp_path / "out.pftrace"
    result = emulate(BOX.replace("WAIT", WAIT), *box, "--trace", str(trace), "-o", str(tmp_path / "o"))
    assert result.exit_code == 0, result.output
    source = np.load(tmp_path / "o" / "arg0.npy")
    assert (np.load(tmp_path / "o" / "arg1.npy").view(np.uint8) == source.ravel()).all() and source.any()
    events = json.loads(trace.read_text())["traceEvents"]
    names = {e["args"]["name"] for e in events if e["ph"] == "M"}
    assert names == {"CTA (0, 0, 0)", "warp 0"}
    begin, end = (next(e for e in events if e["ph"] == ph) for ph in "be")
    assert begin["name"] == "a TMA load" and begin["id"] == end["id"] and end["ts"] > begin["ts"]
    waits = [e for e in events if e["ph"] == "X" and "phase" in e["name"]]
    assert waits and all(e["dur"] >= 0 for e in waits)
    copy = next(e for e in events if e["name"].startswith("cp.async.bulk.tensor"))
    assert copy["args"]["text"] == BOX.splitlines()[copy["args"]["line"] - 1]


def test_a_hazard_is_exit_code_4(emulate):
    box = ("--block", "32", "--args", "map(u8[8,16]:random,box=8x16) i32[32]")
    result = emulate(BOX.replace("WAIT", ""), *box)
    assert result.exit_code == 4 and "E3: " in result.output and "argument 1" in result.output
    strict = emulate(BOX.replace("WAIT", ""), *box, "--strict", "--format", "json")
    found = json.loads(strict.output)
    assert strict.exit_code == 4 and not found["finished"] and "E3" in {r["code"] for r in found["reports"]}


def test_an_access_outside_is_exit_code_4(emulate):
    result = emulate(SAXPY, "--block", "64", "--args", "f32[10] f32[64] 2.0 64")
    assert result.exit_code == 4 and "D410" in result.output and "after the end of array 0" in result.output


@pytest.mark.parametrize("text, arguments, code, words", [
    (SAXPY, ("--block", "64", "--args", "f32[9] f32[9] 2.0"), 1, "V423"),
    (SAXPY, ("--block", "64", "--args", "f32[9] f32[9] 2.0 100000000000"), 1, "V424"),
    (SAXPY, ("--block", "64", "--args", "f32[9] f32[9] 2.0 0.5"), 1, "V424"),
    (SAXPY, ("--block", "64", "--args", "f32[9] f32[9] f64=2 1"), 1, "argument 2 has 8 bytes"),
    (SAXPY, ("--block", "64", "--args", "f32[9]:none f32[9] 2.0 1"), 1, "'none' fills no array"),
    (SAXPY, ("--block", "64", "--args", "map(f32[9],bax=9) f32[9] 2.0 1"), 1, "V426"),
    (SAXPY, ("--block", "0", "--args", "f32[9]"), 2, "positive"),
    (SAXPY, ("--args", "f32[9]"), 2, "--block"),
    (SAXPY, ("--block", "64", "--entry", "other"), 1, "no entry 'other'; the PTX has saxpy"),
    (SAXPY.replace("fma.rn", "fmu.rn"), SAXPY_ARGS, 1, "fmu.rn.f32"),
    ("nothing", ("--block", "1"), 1, "S"),
])  # fmt: skip
def test_errors_say_what_to_mend(emulate, text, arguments, code, words):
    result = emulate(text, *arguments)
    assert result.exit_code == code and words in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize("text, dtype, shape", [
    ("f16[2,3]:ones", np.float16, (2, 3)), ("bf16[4]:normal", ml_dtypes.bfloat16, (4,)),
    ("e4m3[4]:random", ml_dtypes.float8_e4m3fn, (4,)), ("u8[0]", np.uint8, (0,)),
    ("int64[2]:arange", np.int64, (2,)),
])  # fmt: skip
def test_arrays(text, dtype, shape):
    array = parse_argument(text)
    assert array.dtype == dtype and array.shape == shape


def test_other_arguments(tmp_path):
    assert parse_argument("0x10") == 16 and parse_argument("-2.5e3") == -2500.0
    assert parse_argument("i64=-3") == np.int64(-3) and parse_argument("i64=-3").dtype == np.int64
    assert parse_argument("hex:00ff") == b"\x00\xff"
    np.save(tmp_path / "a.npy", np.arange(6.0))
    assert (parse_argument(f"f32[2,3]:{tmp_path}/a.npy") == np.arange(6).reshape(2, 3)).all()
    found = parse_argument("map(f16[64,32],box=8x32,swizzle=64B,nan)")
    assert (found.box, found.swizzle, found.nan) == ((8, 32), "64B", True)
    with pytest.raises(TilecError, match="hex:xy"):
        parse_argument("hex:xy")
