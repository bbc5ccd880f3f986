"""Lines of PTX that the table and the assembler must both accept, and targets that must not have them."""

from __future__ import annotations

import pytest
from ptx_lines import HEAD, LINES

from tilec.ir.errors import InternalError, TilecSyntaxError
from tilec.ir.ptx import parse, print_module
from tilec.ir.ptx.isa import check, forms_of, target_has
from tilec.ir.ptx.module import Instruction
from tilec.ir.ptx.operands import parse_operands
from tilec.runtime.toolchain import assemble, find

ALL = [
    (target, version, line) for (target, version), text in LINES.items() for line in text.split("\n") if line
]


@pytest.mark.parametrize("target, version, line", ALL)
def test_the_table_has_the_line(target, version, line):
    text = HEAD.format(target=target, version=version, lines=line)
    module = parse(text)
    assert parse(print_module(module)) == module


@pytest.mark.parametrize("target, version", LINES)
def test_the_assembler_accepts_the_lines(target, version):
    if find("ptxas") is None:
        pytest.skip("ptxas is not installed: pip install 'tilec[test]'")
    assert assemble(HEAD.format(target=target, version=version, lines=LINES[target, version]), target).cubin


@pytest.mark.parametrize("target, version, line", [a for a in ALL if a[0] != "sm_80"])
def test_a_lower_target_lacks_the_line(target, version, line):
    """But for lines of which sm_80 has a form too."""
    opcode, _, rest = line.rstrip(";").partition(" ")
    made = Instruction(opcode, parse_operands(rest))
    if all(target_has("sm_80", form.target) for form in forms_of(opcode)):
        return
    with pytest.raises(InternalError) as e:
        check(made, "sm_80")
    assert e.value.code == "X403"


@pytest.mark.parametrize("have, need, fits", [
    ("sm_100a", "sm_100f", True), ("sm_103a", "sm_100f", True), ("sm_110a", "sm_100f", False),
    ("sm_101a", "sm_110f", True), ("sm_100", "sm_100f", False), ("sm_100f", "sm_100a", False),
    ("sm_120a", "sm_90a|sm_100f", False), ("sm_100a", "sm_90a|sm_100f", True),
])  # fmt: skip
def test_families_of_targets(have, need, fits):
    assert target_has(have, need) is fits


FUNCTIONS = """
.version 8.3
.target sm_90a
.address_size 64
.extern .func (.param .b32 func_retval0) vprintf (.param .b64 a, .param .b64 b);
.weak .func (.reg .u32 result) old(.reg .u32 x, .reg .pred p) { mov.u32 result, x; ret; }
.visible .func (.param .align 8 .b8 out[16]) pack(.param .align 8 .b8 in[16]);
.global .align 8 .u64 table[2] = {gm, generic(gm)};
.global .attribute(.managed) .align 4 .b32 gm;
.const .align 4 .f32 half = 0f3F000000;
.alias one, old;
.entry k(.param .u64 p)
{
  .reg .b32 %r<4>; .reg .b64 %d<4>; .reg .pred %p<2>;
  .local .align 4 .b8 frame[4][8];
  .shared .b64 bar1, bar2;
  { // callseq
    .param .b64 param0; .param .b32 retval0;
    st.param.b64 [param0+0], %d1;
    call.uni (retval0), old, (param0, %p1);
    ld.param.b32 %r1, [retval0+0];
  }
  mov.u64 %d1, gm+16;
  mov.u32 %r1, 010;
  fma.rn.f32 %r2, %r1, 0f3F800000, 1.5;
  prototype_0 : .callprototype (.param .b32 _) _ (.param .b64 _);
  call (%r1), %d1, (%d2), prototype_0;
  call old;
  ret;
}
"""


def test_functions_and_calls_survive_a_round_trip():
    module = parse(FUNCTIONS)
    assert parse(print_module(module)) == module
    old = module.function("old")
    assert old is not None and old.body is not None and old.params[1].space == "reg"
    assert module.function("pack").body is None and module.function("nothing") is None


@pytest.mark.parametrize(
    "old, new, message",
    [
        (".align 8 .u64 table", ".align 3 .u64 table", "3 is no alignment"),
        ("table[2]", "table[99999999999]", "too large"),
        ("%r<4>", "%r<9999999>", "cannot read the registers"),
        (".u64 p)", ".u63 p)", "cannot read parameter"),
        ("010", "089", "no octal number"),
        (".shared .b64", ".shared .q64", "cannot read"),
        ("ret;\n}\n", "ret;\n", "ends inside a body"),
        ("{ // callseq", "{" * 200, "nest deeper"),
        ("call old;", "call old, (%r1, );", "unexpected"),
        (
            "mov.u32 %r1, 010;",
            "tex.2d.v4.f32.f32 {%r1, %r1, %r1, %r1}, [t, {%r1, %r1}];",
            "no instruction 'tex",
        ),
        ("mov.u32 %r1, 010;", "vadd4.u32.u32.u32 %r1, %r1, %r1, %r1;", "no instruction 'vadd4"),
        ("mov.u32 %r1, 010;", "multimem.red.global.add.f32 [%d1], %r1;", "no instruction 'multimem"),
        ("mov.u32 %r1, 010;", "mov.u32 %r1, -%r2;", "unexpected '%r2'"),
    ],
)
def test_damaged_text_is_a_located_error(old, new, message):
    assert old in FUNCTIONS
    with pytest.raises(TilecSyntaxError, match=message) as e:
        parse(FUNCTIONS.replace(old, new, 1))
    assert "PTX line" in e.value.message
