"""Copies at the end of a loop of wgmma go where nothing is lost by it, and only there."""

from __future__ import annotations

import pytest

from tilec.ir.ptx.code import Code
from tilec.ir.ptx.in_place import in_place
from tilec.ir.ptx.module import Instruction, Int, Label, Pred, Reg, Statement, Sym, Vec

P, X, Y, A = (Reg(f"%f{n}") for n in range(4))


def op(opcode: str, *operands: object, pred: Pred | None = None) -> Instruction:
    return Instruction(opcode, operands, pred)  # type: ignore[arg-type]


WGMMA = op("wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16", Vec((A,)))
COMMIT, WAIT = op("wgmma.commit_group.sync.aligned"), op("wgmma.wait_group.sync.aligned", Int(0))
MAKE, MOVE = op("ex2.approx.ftz.f32", X, Y), op("mov.f32", P, X)
AGAIN = op("bra.uni", Sym("$loop"))


def done(body: list[Statement]) -> list[Statement]:
    code = Code(list(body))
    in_place(code)
    return code.statements()


def loop(*inside: Statement) -> list[Statement]:
    return [Label("$loop"), WGMMA, COMMIT, WAIT, *inside, AGAIN]


@pytest.mark.parametrize(
    "between",
    [(), (op("add.rn.f32", Y, X, Y),), (Label("$poll"), op("bra", Sym("$poll"), pred=Pred(Reg("%p0"))))],
)
def test_what_is_made_once_is_made_done(between: tuple[Statement, ...]) -> None:
    found = done(loop(MAKE, *between, MOVE))
    assert MOVE not in found and op("ex2.approx.ftz.f32", P, Y) in found
    assert not any(X in s.operands for s in found if isinstance(s, Instruction))


LEAVE = op("bra", Sym("$end"), pred=Pred(Reg("%p0")))
ACCUMULATES = op("wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16", Vec((P,)))


@pytest.mark.parametrize(
    "body",
    [
        loop(MAKE, op("add.rn.f32", Y, P, Y), MOVE),  # the old value is read
        loop(MAKE, MOVE, op("add.rn.f32", Y, X, Y)),  # X is read afterwards
        loop(MAKE, op("ex2.approx.ftz.f32", X, A), MOVE),  # made twice
        loop(op("ex2.approx.ftz.f32", X, Y, pred=Pred(Reg("%p0"))), MOVE),  # made sometimes
        [*loop(MAKE, LEAVE, MOVE), Label("$end")],  # a way out
        loop(ACCUMULATES, COMMIT, MAKE, MOVE, WAIT),  # a product that runs has P
        [Label("$loop"), MAKE, MOVE, AGAIN],  # no products
    ],
)
def test_other_copies_stay(body: list[Statement]) -> None:
    assert done(body) == body


def test_a_product_that_is_waited_for_does_not_run() -> None:
    assert MOVE not in done(loop(ACCUMULATES, COMMIT, WAIT, MAKE, MOVE))
