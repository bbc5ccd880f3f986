"""Which waits for products wait for none: an earlier one has waited for it on every way."""

from __future__ import annotations

from tilec.backends.ptx.hopper_wait import late_waits, needless_waits
from tilec.ir.core import Block, Op, frozen


def dot() -> Op:
    return Op("dot", (), frozen(asynchronous=True))


def wait(pending: int) -> Op:
    return Op("dot.wait", (), frozen(pending=pending))


def block(*ops: Op) -> Block:
    return Block((), ops)


def inside(name: str, *blocks: Block) -> Op:
    return Op(name, (), frozen(), (), blocks)


def found(*ops: Op) -> frozenset[Op]:
    return needless_waits(block(*ops))


def test_what_an_earlier_wait_has_waited_for() -> None:
    one, all_, again = wait(1), wait(0), wait(0)
    assert found(one, dot(), dot(), all_, again) == {one, again}
    assert found(dot(), dot(), one, all_) == set()
    assert found(dot(), one, all_) == {one}


def test_products_of_the_turn_before() -> None:
    first, last = wait(0), wait(1)
    assert found(inside("for", block(first, dot(), last))) == {last}
    start = wait(1)
    assert found(inside("for", block(start, dot(), dot(), first))) == {start}
    assert found(inside("for", block(start, dot(), dot()))) == set()


def test_one_way_is_enough_to_need_a_wait() -> None:
    done = wait(0)
    assert found(inside("if", block(dot()), block()), done) == set()
    assert found(inside("if", block(dot(), wait(0)), block()), done) == {done}


def test_a_product_without_asynchronous_says_nothing_of_earlier_ones() -> None:
    done = wait(0)
    assert found(dot(), Op("dot", (), frozen()), done) == set()


def test_nothing_is_pinned_for_a_wait_for_nothing() -> None:
    """Neither that wait nor, on its account, the next."""
    work, done, late = Op("exp2", (), frozen()), wait(0), wait(0)
    assert late_waits(block(dot(), wait(0), work, done)) == {}
    assert late_waits(block(dot(), wait(1), work, late)) == {late: 0}
