"""PTX data, text and builder: round trips, located errors, determinism."""

from __future__ import annotations

import pytest

from tilec.ir.errors import InternalError, TilecSyntaxError
from tilec.ir.loc import Loc
from tilec.ir.ptx import Builder, addr, parse, print_module, tensor_addr
from tilec.ir.ptx.module import Entry, Float, Instruction, Not, Pair, Reg, Scope, param_layout

REAL = """
// what other compilers print
.version 8.4
.target sm_90a
.address_size 64
.extern .shared .align 128 .b8 dyn[];
.global .align 4 .b32 table[3] = {1, 0x2, 3};
.visible .entry k(
    .param .align 64 .b8 k_param_0[128],   // a map
    .param .u64 .ptr .global .align 1 k_param_1,
    .param .u32 k_param_2
)
.reqntid 128, 1, 1
.minnctapersm 1
{
    .reg .pred %p<3>;
    .reg .b32 %r<9>, %x;
    .reg .b64 %rd<4>;
    .shared .align 8 .b64 bar;
    .loc 1 7 3, function_name $L__info, inlined_at 1 2 3
    mov.f32 %r1, 0f3F800000; mov.u32 %r2, -1;
    add.f32 %r1, %r1, 0D3FF0000000000000;
    @!%p1 st.shared.v4.b32 [dyn+-16], {%r1, %r2, 0, 0xFF};
    { .reg .pred done;
    again:
      mbarrier.try_wait.parity.shared::cta.b64 done, [ %r3 + 8 ], 1;
      @!done bra.uni again; }
    { .reg .pred done;
    again:
      mbarrier.try_wait.parity.shared::cta.b64 done, [bar], 1;
      @!done bra again; }
    cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%r4],
        [%rd1, {%r5, %r6}], [%r3];
    setp.lt.and.s32 %p1|%p2, %r1, %r2, !%p0; /* both */
    ts: .branchtargets $a, $b;
    brx.idx %r7, ts;
$a: .pragma "nounroll";
$b: ret;
}
.file 1 "kernel.py"
.section .debug_str
{
$L__info:
.b8 103 // g
}
"""


def entry_of(text: str) -> Entry:
    found = parse(text).entry("k")
    assert found is not None
    return found


def test_real_text_survives_a_round_trip():
    module = parse(REAL)
    printed = print_module(module)
    assert parse(printed) == module
    assert print_module(parse(printed)) == printed


def test_what_the_parser_sees():
    entry = entry_of(REAL)
    assert entry.directive("reqntid") == (128, 1, 1) and entry.directive("maxnreg") is None
    assert next(s for s in entry.body if isinstance(s, Scope)).body[0].name == "done"
    instructions = [s for s in entry.body if isinstance(s, Instruction)]
    assert instructions[2].operands[2] == Float(0x3FF0000000000000, 64)
    assert instructions[3].operands[0].offset == -16 and instructions[3].pred.negated
    assert instructions[-3].operands[0] == Pair(Reg("%p1"), Reg("%p2"))
    assert instructions[-3].operands[3] == Not(Reg("%p0"))
    assert (instructions[0].loc.file, instructions[0].loc.line) == ("kernel.py", 7)
    assert REAL.splitlines()[instructions[0].line - 1].strip().startswith("mov.f32")


def test_parameters_are_laid_out_by_size_and_alignment():
    where, size = param_layout(entry_of(REAL).params)
    assert where == {"k_param_0": 0, "k_param_1": 128, "k_param_2": 136} and size == 140


@pytest.mark.parametrize(
    "line, message",
    [
        ("frobnicate.b32 %r1, %r2;", "no instruction 'frobnicate.b32'"),
        ("add.s32 %r1, %r2;", "operands of 'add.s32'"),
        ("add.s32 %r1, %r2, [%r3];", "operands of 'add.s32'"),
        ("ld.shared.b32 %r1, [%r2+%r3];", "offset '%r3'"),
        ("mov.u32 %r1, ^;", "cannot read operand"),
        ("multimem.red.global.add.f32 [%r1], %r2;", "no instruction 'multimem"),
    ],
)
def test_errors_name_the_line(line, message):
    text = REAL.replace("ts: .branch", line + "\nts: .branch")
    where = text.splitlines().index("    " + line) + 1
    with pytest.raises(TilecSyntaxError, match=message) as e:
        parse(text)
    assert f"PTX line {where}:" in e.value.message
    parse(REAL)


def small() -> Builder:
    b = Builder("k", "sm_90a")
    b.directive("reqntid", 128, 1, 1)
    dyn = b.shared("dyn", -1, align=1024)
    place = b.define("b64", "ld.param.u64", addr(b.param("u64")))
    tensor = b.define("b64", "mov.b64", b.param("b8", count=128, align=64))
    top = b.label("loop")
    b.place(top)
    with b.at(Loc("dir/kernel.py", 5, 8)):
        v = b.regs("f32", 4)
        b.emit("ld.global.v4.f32", v, addr(place, 16))
        b.emit("fma.rn.f32", v[0], v[1], 0.5, v[2], comment="half")
    done = b.define("pred", "setp.lt.f32", v[0], 1.0)
    b.emit("bra", top, pred=Not(done))
    b.emit("prefetch.tensormap", addr(tensor))
    b.emit(
        "cp.async.bulk.tensor.2d.global.shared::cta.bulk_group",
        tensor_addr(tensor, (0, 0)),
        addr(b.define("b32", "mov.u32", dyn)),
    )
    b.emit("ret")
    return b


def test_builder_is_deterministic_and_parses():
    text = small().text()
    assert text == small().text()
    assert print_module(parse(text)).replace(" ", "") == "".join(
        line.split("//")[0].rstrip() + "\n" for line in text.splitlines()
    ).replace(" ", "")
    assert ".loc 1 5 9" in text and "// kernel.py:5" in text and "// half" in text


def test_version_is_the_least_that_is_needed():
    b = Builder("k", "sm_80")
    b.emit("ret")
    assert b.module().version == (7, 0)
    b.emit("ex2.approx.f16", b.reg("b16"), b.reg("b16"))
    assert b.module().version == (7, 0)
    assert small().module().version == (8, 0)
    b = small()
    b.emit("cvt.rn.bf16x2.f32", b.reg("b32"), 1.0, 2.0)
    assert b.module().version == (8, 0)
    b.emit(
        "tensormap.replace.tile.rank.shared::cta.b1024.b32",
        addr(b.define("b64", "mov.b64", 0)),
        1,
    )
    assert b.module().version == (8, 3)


@pytest.mark.parametrize(
    "target, opcode, operands, code",
    [
        ("sm_90a", "add.q32", ("b32", "b32", "b32"), "X401"),
        ("sm_90a", "add.s32", ("b32", "b32"), "X402"),
        ("sm_80", "elect.sync", ("b32", 0), "X403"),
        ("sm_90", "setmaxnreg.inc.sync.aligned.u32", (64,), "X403"),
    ],
)
def test_builder_refuses_what_the_table_lacks(target, opcode, operands, code):
    b = Builder("k", target)
    with pytest.raises(InternalError) as e:
        b.emit(opcode, *[b.reg(o) if isinstance(o, str) else o for o in operands])
    assert e.value.code == code


def test_a_branch_to_nowhere_is_an_error():
    b = Builder("k", "sm_90a")
    b.emit("bra", b.label("lost"))
    with pytest.raises(InternalError, match="lost"):
        b.text()
