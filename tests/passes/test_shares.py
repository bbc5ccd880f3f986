"""A share of a loop's exponentials by polynomial: where XU binds and the interval falls, else none."""

from __future__ import annotations

import json
from typing import Any

import pytest

import tilec
import tilec.language as tl
from tilec.ir.core import Kernel, Op, walk
from tilec.ir.errors import InternalError, TilecTypeError, TilecValueError
from tilec.passes import Options, Stages, lower
from tilec.passes.schedule import shares
from tilec.passes.schedule.certificate import certificate, verify
from tilec.passes.schedule.checker import violations
from tilec.passes.schedule.document import canonical
from tilec.passes.schedule.extract import Wishes, loop_problem, ring_loops
from tilec.passes.schedule.joint import check
from tilec.passes.schedule.machines import H100

SIGNATURE = ("f16[2]", "f16[2]", "f32[1]")


@tilec.kernel
def density(
    X: tl.Tensor, Y: tl.Tensor, S: tl.Tensor, D: tl.constexpr[int] = 64, hard: tl.constexpr[bool] = False
):
    """Sums of exp2 of products: an exponential for each 2 D operations of the tensor cores."""
    m = tl.program_id(0)
    x = tl.load(X, (m, 0), (128, D))
    total = tl.zeros((128,), tl.float32)
    for n in tl.range(tl.cdiv(Y.shape[0], 128)):
        s = tl.dot(x, tl.load(Y, (n, 0), (128, D)).T)
        if hard:  # many instructions for each exponential
            s = s / (s * s + 1.0)
        total += tl.sum(tl.exp2(tl.fma(s, 0.125, -8.0)), 1)
    tl.store(S, (m,), total)


def made(options: Options | None = None, target: str = "sm_90a", **meta: Any) -> Stages:
    return lower(density.trace(SIGNATURE, **meta), target, options or Options())


def shares_of(kernel: Kernel) -> set[int]:
    return {op.attrs.get("share", 0) for op in walk(kernel.body) if op.name == "exp2"}


def interval(stages: Stages) -> int:
    (answer,) = stages.answers
    assert answer.schedule is not None and answer.status == "optimal"
    return answer.schedule.ii


def test_where_xu_binds_a_share_shortens_the_interval(real_budget: None) -> None:
    plain, best = made(Options(exp2_share=0)), made()
    (share,) = shares_of(best.scheduled)
    assert share and shares_of(plain.scheduled) == {0}
    assert plain.problems[0].load["XU"] == interval(plain)
    assert interval(best) < 0.97 * interval(plain)
    slots = best.log[[n.startswith("exponentials") for n in best.log].index(True)]
    assert f"{share} of 16 by polynomial: {interval(best)} cycles" in slots
    assert f"without {interval(plain)} cycles" in slots


def test_no_other_share_is_better(real_budget: None) -> None:
    """Each has a bound, or a plan, that is no less than what was taken."""
    best = made()
    taken = interval(best)
    for share in shares.SHARES:
        other = made(Options(exp2_share=share))
        assert max(shares.issue_slots(other.problems[0], H100, 8), interval(other)) >= taken, share


def test_the_certificate_of_a_share_holds(real_budget: None) -> None:
    best = made()
    text = canonical(certificate(best.problems[0], best.answers[0], short=True))
    assert verify(json.loads(text)) == ()


@pytest.mark.parametrize("meta", [{"D": 256}, {"hard": True}], ids=str)
def test_where_it_does_not_pay_nothing_changes(meta: dict[str, Any]) -> None:
    """The tensor cores bind, or issue slots do."""
    free, forbidden = made(**meta), made(Options(exp2_share=0), **meta)
    assert str(free.scheduled) == str(forbidden.scheduled)
    assert shares_of(free.scheduled) == {0}
    assert "share" not in dict(free.scheduled.attrs["schedule"][0])


def test_without_asynchronous_products_too() -> None:
    """On sm_80 the FMA pipe is half as wide: XU does not bind."""
    assert shares_of(made(target="sm_80").scheduled) == {0}
    assert shares_of(made(Options(exp2_share=4), "sm_80").scheduled) == {4}


def test_a_plan_for_a_share_is_refused_without_it(real_budget: None) -> None:
    plain, best = made(Options(exp2_share=0)), made()
    assert violations(plain.problems[0], best.answers[0].schedule)  # type: ignore[arg-type]
    with pytest.raises(InternalError, match="X301"):
        check(plain.problems[0], best.answers[0])


def test_a_kernel_with_another_share_than_its_plan_is_refused() -> None:
    stages = made(Options(exp2_share=0))
    kernel, wishes = stages.aref, Wishes(None, 4, 2)
    place = shares.Place(0, H100, wishes, 0)
    loop = loop_problem(kernel, 0, H100, wishes)
    shares.check_costs(kernel, iter([(place, loop)]))
    other = shares.with_share(kernel, ring_loops(kernel)[0], 2, 4)
    with pytest.raises(InternalError, match="X301"):
        shares.check_costs(other, iter([(place, loop)]))


def test_a_share_moves_work_from_xu_to_the_other_pipes() -> None:
    loads = {n: made(Options(exp2_share=n)).problems[0].load for n in (0, 4, 8)}
    assert [loads[n]["XU"] for n in (0, 4, 8)] == [1024, 768, 512]
    assert loads[8]["FMA"] - loads[0]["FMA"] == 9 * 64 and loads[8]["ALU"] - loads[0]["ALU"] == 3 * 128


def test_ops_that_do_not_change_stay_the_same_objects() -> None:
    kernel = made(Options(exp2_share=0)).aref
    other = shares.with_share(kernel, ring_loops(kernel)[0], 2, 4)
    old, new = ([op for op in walk(k.body) if not op.blocks] for k in (kernel, other))
    changed: list[Op] = [b for a, b in zip(old, new, strict=True) if a is not b]
    assert changed and all(op.name == "exp2" for op in changed)


def test_wrong_shares() -> None:
    with pytest.raises(TilecValueError, match="V136"):
        made(Options(exp2_share=9))
    with pytest.raises(TilecTypeError, match="T130"):
        made(Options(exp2_share=True))
