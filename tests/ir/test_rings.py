"""Rings under chosen interleavings: the invariant, the data, and what mutations lead to."""

from __future__ import annotations

import itertools
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ir_texts import AREF, product, rings

from tilec.ir import interp
from tilec.ir.core import Kernel, Value
from tilec.ir.errors import DeadlockError, InternalError, TilecError, TilecTypeError, TilecValueError
from tilec.ir.forms import verify
from tilec.ir.interp import POLICIES, Ring, Runtime, interpret
from tilec.ir.ops import make
from tilec.ir.text import parse_kernel
from tilec.ir.types import ArefType, TileType, float16, int32

Array = np.ndarray[Any, Any]


class Watched(Runtime):
    """A runtime whose rings are checked before every step."""

    rings: list[Ring]

    def new_ring(self, node: Any) -> Ring:
        ring = super().new_ring(node)
        Watched.rings.append(ring)
        return ring


def invariant(ring: Ring) -> bool:
    """c <= g <= f <= p <= min(c) + D for every consumer."""
    oldest = min(ring.done.values())
    return all(ring.done[i] <= ring.got[i] <= ring.full <= ring.put <= oldest + ring.depth for i in ring.done)


def watch(kernel: Kernel, args: list[Any], seed: int) -> list[Ring]:
    """Run under a random interleaving and check the invariant between all steps."""
    rng = random.Random(seed)
    Watched.rings = []

    def choose(n: int) -> int:
        assert all(map(invariant, Watched.rings))
        return rng.randrange(n)

    env = {p: interp.bind(p, a) for p, a in zip(kernel.params, args, strict=True)}
    runtime = Watched((1, 1, 1), (0, 0, 0), choose, env, "main", interp.ring_consumers(kernel))
    for _ in runtime.run_block(kernel.body, ()):
        pass
    return Watched.rings


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 8), st.integers(1, 3), st.data())
def test_the_invariant_holds_under_random_interleavings(
    depth: int, consumers: int, data: st.DataObject
) -> None:
    keep = data.draw(st.integers(0, depth - 1))
    trips = data.draw(st.integers(0, 2 * depth + 2))
    kernel = parse_kernel(rings(depth, consumers, keep))
    verify(kernel)
    a = np.arange(1, 4 * trips + 1, dtype=np.int32)
    outs = [np.zeros(4 * trips, np.int32) for _ in range(consumers)]
    (ring,) = watch(kernel, [a, *outs, trips], data.draw(st.integers(0, 2**32)))
    assert all((out == 2 * a).all() for out in outs)
    assert ring.put == ring.full == trips
    assert set(ring.got.values()) == set(ring.done.values()) == {trips}


def test_the_watch_can_fail() -> None:
    ring = Ring(make("aref.new", payload=(TileType(int32, (4,)),), depth=2), ["c"])
    ring.put = ring.full = 3
    assert not invariant(ring)


def run_rings(text: str, trips: int, policy: str = "round_robin", seed: int = 0) -> bool:
    """Whether every consumer got the right data."""
    kernel = parse_kernel(text)
    a = np.arange(1, 4 * trips + 1, dtype=np.int32)
    outs = [np.zeros(4 * trips, np.int32) for _ in range(len(kernel.params) - 2)]
    interpret(kernel, (1,), [a, *outs, trips], policy=policy, seed=seed)
    return all((out == 2 * a).all() for out in outs)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_trip_counts_around_the_depth(policy: str, depth: int) -> None:
    for trips in (0, 1, depth - 1, depth, depth + 1, 3 * depth):
        assert run_rings(rings(depth, 2), trips, policy)


PUT = "      aref.put %ring, %a\n"
GET = "      %t0 = aref.get %ring : tile<4xint32, smem>\n"
RELEASE = "      aref.release %ring {keep=0}\n"
ADD = "      %s0 = add %t0, %t0 : tile<4xint32>\n"
FAULTS = {
    "double put": (PUT, PUT * 2),
    "missing put": (PUT, ""),
    "double get": (GET, GET.replace("%t0", "%u") + GET),
    "missing release": (RELEASE, ""),
    "early release": (ADD, RELEASE + ADD),
    "put of the wrong tile": (PUT, "      aref.put %ring, %wrong\n"),
}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", FAULTS)
def test_faults_give_an_error_a_deadlock_or_wrong_data(name: str, seed: int) -> None:
    old, new = FAULTS[name]
    good = rings(2)
    assert good.count(old) == 1
    text = good.replace(old, new)
    if "%wrong" in new:
        text = text.replace(PUT.replace("%a", "%wrong"), "      %wrong = neg %a : tile<4xint32>\n" + new)
    assert run_rings(good, 5, "random", seed)
    try:
        assert not run_rings(text, 5, "random", seed)
    except TilecError as error:
        assert isinstance(error, DeadlockError)


def test_a_deadlock_says_who_waits_for_what() -> None:
    text = rings(2).replace(RELEASE, "").replace("aref.put %ring, %a", 'aref.put %ring, %a loc("k.py":7:3)')
    with pytest.raises(DeadlockError) as caught:
        run_rings(text, 3)
    message = caught.value.message
    assert "load waits for an empty slot of ring at k.py:7:3" in message
    assert "c0 waits for a full slot of ring" in message


def test_keeping_as_many_slots_as_there_are_deadlocks() -> None:
    assert run_rings(rings(2, 1, 1), 5)
    with pytest.raises(DeadlockError):
        run_rings(rings(2, 1, 2), 5)


# Products in flight.


def multiply(text: str, trips: int, policy: str = "random", seed: int = 0) -> bool:
    rng = np.random.default_rng(0)
    n = max(4 * trips, 4)
    a = rng.integers(-4, 5, (n, n)).astype(np.float16)
    out = np.full((4, 4), np.nan, np.float32)
    interpret(parse_kernel(text), (1,), [a, out, 4 * trips], policy=policy, seed=seed)
    wide = a.astype(np.float64)
    want = sum(
        (wide[:4, k : k + 4] @ wide[k : k + 4, :4].T for k in range(0, 4 * trips, 4)), np.zeros((4, 4))
    )
    return bool((out == want).all())


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_all_lags_and_trip_counts(depth: int) -> None:
    for pending, trips in itertools.product(range(depth), (0, 1, depth - 1, depth, depth + 1, 9)):
        text = product(depth, pending)
        verify(parse_kernel(text))
        for policy, seed in [(p, 0) for p in POLICIES] + [("random", s) for s in range(1, 4)]:
            assert multiply(text, trips, policy, seed)


def test_aref_form_in_program_order() -> None:
    assert all(multiply(AREF, trips, "round_robin") for trips in (0, 1, 5))


WAIT = "      %w = dot.wait %d {pending=1} : tile<4x4xfloat32>\n"


@pytest.mark.parametrize("seed", range(5))
def test_a_release_before_the_wait_gives_wrong_data(seed: int) -> None:
    release = "      aref.release %ring {keep=1}\n"
    early = product(2, 1).replace(WAIT + release, release.replace("keep=1", "keep=0") + WAIT)
    assert multiply(product(2, 1), 5, "random", seed)
    assert not multiply(early, 5, "random", seed)
    with pytest.raises(InternalError, match="X227"):
        verify(parse_kernel(early))


@pytest.mark.parametrize(
    "use", ["%e = add %d, %d : tile<4x4xfloat32>", "%e = dot %d, %d, %start : tile<4x4xfloat32>",
            "%e = dot %q, %q, %d : tile<4x4xfloat32>"]
)  # fmt: skip
def test_the_interpreter_refuses_a_result_that_was_not_waited_for(use: str) -> None:
    extra = f"      %q = const {{dtype=float32, shape=(4, 4), value=1.0}} : tile<4x4xfloat32>\n      {use}\n"
    text = product(2, 1).replace(WAIT, extra + WAIT)
    for check in (
        verify,
        lambda k: interpret(k, (1,), [np.ones((8, 8), np.float16), np.ones((4, 4), np.float32), 8]),
    ):
        with pytest.raises(InternalError, match=r"X104|X228"):
            check(parse_kernel(text))


# Type rules.

RING = Value(ArefType((TileType(int32, (4,)),), 2), "r")


@pytest.mark.parametrize(
    ("name", "args", "attrs", "code"),
    [
        ("aref.put", [RING, Value(TileType(float16, (4,)))], {}, "T124"),
        ("aref.put", [RING], {}, "T124"),
        ("aref.put", [Value(TileType(int32))], {}, "T123"),
        ("aref.get", [Value(TileType(int32))], {}, "T123"),
        ("aref.release", [Value(TileType(int32))], {}, "T123"),
        ("aref.new", [], {"payload": (), "depth": 0}, "V107"),
        ("dot.wait", [], {"pending": -1}, "V108"),
        ("warp_groups", [], {"names": ("a",), "warps": (), "registers": ()}, "V109"),
        ("convert_layout", [RING], {"layout": None}, "T103"),
    ],
)
def test_refused(name: str, args: list[Value], attrs: dict[str, Any], code: str) -> None:
    with pytest.raises((TilecTypeError, TilecValueError)) as caught:
        make(name, args, **attrs)
    assert caught.value.code == code
