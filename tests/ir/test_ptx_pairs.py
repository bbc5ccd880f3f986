"""Two 16-bit floats of one register are made at once where nothing is lost by it, and only there."""

from __future__ import annotations

import pytest
from test_ptx_in_place import AGAIN, COMMIT, LEAVE, WAIT, op

from tilec.ir.ptx.code import Code
from tilec.ir.ptx.module import Int, Label, Pred, Reg, Statement, Vec
from tilec.ir.ptx.pairs import in_pairs

X, Y, Z = (Reg(f"%rs{n}") for n in range(3))
R, S = Reg("%r0"), Reg("%r1")
F, G = Reg("%f0"), Reg("%f1")
MAKE_X, MAKE_Y = op("cvt.rn.f16.f32", X, F), op("cvt.rn.f16.f32", Y, G)
JOIN = op("mov.b32", R, Vec((X, Y)))
BOTH = op("cvt.rn.f16x2.f32", R, G, F)  # the first source is the upper half
STORE = op("st.shared.b32", Reg("%r9"), R)
USE = PRODUCT = op("wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16", Vec((F,)), Vec((R,)))


def done(body: list[Statement]) -> list[Statement]:
    code = Code(list(body))
    in_pairs(code)
    return code.statements()


def loop(*inside: Statement) -> list[Statement]:
    return [MAKE_X, MAKE_Y, Label("$loop"), *inside, AGAIN]


def test_one_instruction_makes_both() -> None:
    assert done([MAKE_X, MAKE_Y, JOIN, USE]) == [BOTH, USE]
    assert done([MAKE_Y, op("cvt.rn.f16.f32", Z, F), MAKE_X, JOIN, USE])[1:] == [BOTH, USE]


def test_two_registers_of_the_same_halves_are_one() -> None:
    again = op("mov.b32", S, Vec((X, Y)))
    assert done([MAKE_X, MAKE_Y, JOIN, USE, again, op("not.b32", Reg("%r9"), S)]) == [
        BOTH, USE, op("not.b32", Reg("%r9"), R),
    ]  # fmt: skip


def test_a_loop_carries_one_register() -> None:
    body = loop(LEAVE, JOIN, PRODUCT, COMMIT, WAIT, MAKE_X, MAKE_Y)
    found = done([*body, Label("$end")])
    assert found == [BOTH, Label("$loop"), LEAVE, PRODUCT, COMMIT, WAIT, BOTH, AGAIN, Label("$end")]


SOMETIMES = Pred(Reg("%p0"))


@pytest.mark.parametrize(
    "body",
    [
        [MAKE_X, MAKE_Y, JOIN, STORE],  # no product has it
        [MAKE_X, MAKE_Y, JOIN, USE, op("mov.b16", Z, X)],  # a half is read alone
        [MAKE_X, op("mov.b16", Y, Z), JOIN, USE],  # a half is no conversion
        [MAKE_X, op("cvt.rn.bf16.f32", Y, G), JOIN, USE],  # of two kinds
        [MAKE_X, op("cvt.rn.f16.f32", Y, G, pred=SOMETIMES), JOIN, USE],
        [MAKE_X, op("add.rn.f32", F, F, G), MAKE_Y, JOIN, USE],  # the source of X is gone
        [MAKE_X, MAKE_Y, JOIN, op("mov.b32", S, Vec((Y, X))), USE],  # also the other way round
        [MAKE_X, MAKE_Y, JOIN, op("add.s32", R, R, Int(1)), USE],  # written again
        loop(JOIN, MAKE_X, MAKE_Y, USE),  # the old pair is used later
        loop(JOIN, PRODUCT, COMMIT, MAKE_X, MAKE_Y, WAIT),  # a product reads it meanwhile
        [*loop(JOIN, PRODUCT, COMMIT, LEAVE, WAIT, Label("$end"), MAKE_X, MAKE_Y)],  # the wait is skipped
    ],
)
def test_other_pairs_stay(body: list[Statement]) -> None:
    assert done(body) == body


def test_a_product_of_the_turn_before_may_run() -> None:
    """The wait at the end of the turn is for the product; a wait that leaves one running is not."""
    inside = (MAKE_X, MAKE_Y, JOIN, PRODUCT, COMMIT)
    one = op("wgmma.wait_group.sync.aligned", Int(1))
    start, end = Label("$loop"), Label("$end")
    assert done([start, LEAVE, *inside, WAIT, AGAIN, end]) == [
        start, LEAVE, BOTH, PRODUCT, COMMIT, WAIT, AGAIN, end,
    ]  # fmt: skip
    kept = [start, LEAVE, *inside, one, AGAIN, end]
    assert done(kept) == kept
