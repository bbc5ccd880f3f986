"""Wrong schedules must be noticed: by the verifier, and by running them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pass_kernels import attention, gemm, halves

from tilec.ir.core import Block, Kernel, Op, Value, frozen
from tilec.ir.errors import TilecError
from tilec.ir.forms import verify
from tilec.ir.interp import interpret
from tilec.passes import Options, lower

Edit = Callable[[tuple[Op, ...]], tuple[Op, ...]]


def edited(block: Block, edit: Edit) -> Block:
    """The block with an edit of every op list, inner first."""
    ops = tuple(op.with_(blocks=tuple(edited(b, edit) for b in op.blocks)) for op in block.ops)
    return Block(block.params, edit(ops))


def drop(name: str) -> Edit:
    return lambda ops: tuple(op for op in ops if op.name != name)


def swap(first: str, second: str) -> Edit:
    """Exchange neighbours with these names."""

    def edit(ops: tuple[Op, ...]) -> tuple[Op, ...]:
        out = list(ops)
        for i in range(len(out) - 1):
            if (out[i].name, out[i + 1].name) == (first, second):
                out[i], out[i + 1] = out[i + 1], out[i]
        return tuple(out)

    return edit


def early_release(ops: tuple[Op, ...]) -> tuple[Op, ...]:
    """The release right after the get."""
    releases = {op.args[0]: op for op in ops if op.name == "aref.release"}
    rest = [op for op in ops if op.name != "aref.release"]
    gets = {op.args[0] for op in rest if op.name == "aref.get"}
    out = [op for op in ops if op.name == "aref.release" and op.args[0] not in gets]
    for op in rest:
        out.append(op)
        if op.name == "aref.get":
            out.append(releases[op.args[0]])
    return tuple(out)


def double_get(ops: tuple[Op, ...]) -> tuple[Op, ...]:
    """Every get twice; the first one's tiles are not used."""
    out: list[Op] = []
    for op in ops:
        if op.name == "aref.get":
            out.append(op.with_(results=tuple(Value(r.type) for r in op.results)))
        out.append(op)
    return tuple(out)


def late_wait(ops: tuple[Op, ...]) -> tuple[Op, ...]:
    """Waits let one product more run."""
    return tuple(
        op.with_(attrs=frozen(pending=op.attrs["pending"] + 1)) if op.name == "dot.wait" else op for op in ops
    )


def wrong_slots(ops: tuple[Op, ...]) -> tuple[Op, ...]:
    """Two puts of one block exchange their tiles; types fit, values do not."""
    puts = [op for op in ops if op.name == "aref.put"]
    if len(puts) < 2:
        return ops
    first, second = puts
    crossed = (
        first.with_(args=(first.args[0], *second.args[1:])),
        second.with_(args=(second.args[0], *first.args[1:])),
    )
    return (*(op for op in ops[:-1] if op not in puts), *crossed, ops[-1])


def run(kernel: Kernel, args: list[Any], policy: str, seed: int) -> Any:
    copies = [a.copy() for a in args]
    interpret(kernel, (1, 1), copies, policy=policy, seed=seed)
    return copies[-1]


def noticed_by_running(good: Kernel, bad: Kernel, args: list[Any]) -> bool:
    """Some interleaving gives an error or another result."""
    expected = run(good, args, "first", 0)
    for policy, seed in [("first", 0), ("last", 0), *(("random", s) for s in range(5))]:
        try:
            if not np.array_equal(run(bad, args, policy, seed), expected):
                return True
        except TilecError:
            return True
    return False


def noticed_by_verifier(bad: Kernel) -> bool:
    try:
        verify(bad)
    except TilecError:
        return True
    return False


MUTATIONS: dict[str, tuple[Edit, bool]] = {
    "early release": (early_release, True),
    "no release": (drop("aref.release"), True),
    "no put": (drop("aref.put"), True),
    "double get": (double_get, True),
    "late wait": (late_wait, True),
    "release before wait": (swap("dot.wait", "aref.release"), True),
    "swapped payloads": (wrong_slots, False),  # types fit: only the values are wrong
}
KERNELS = {"gemm": gemm, "attention": attention}


# A GEMM has one put per block, which cannot be swapped with another.
CASES = [(k, m) for k in KERNELS for m in MUTATIONS if (k, m) != ("gemm", "swapped payloads")]


@pytest.mark.parametrize(("kernel", "name"), CASES)
def test_mutation_is_noticed(kernel: str, name: str) -> None:
    edit, visible = MUTATIONS[name]
    good = lower(KERNELS[kernel](), options=Options(stages=2)).scheduled
    bad = good.with_(body=edited(good.body, edit))
    args = halves(3, (64, 96), (96, 16), (64, 16))
    if kernel == "attention":
        args = halves(3, (64, 16), (96, 16), (96, 16), (64, 16))
    assert not noticed_by_verifier(good)
    assert noticed_by_running(good, bad, args)
    assert noticed_by_verifier(bad) == visible
