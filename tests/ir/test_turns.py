# ruff: noqa: E501
"""Turns: groups alternate under every interleaving; what breaks that is noticed."""

from __future__ import annotations

import numpy as np
import pytest

from tilec.ir.errors import DeadlockError, InternalError, TilecError, TilecValueError
from tilec.ir.forms import verify
from tilec.ir.interp import POLICIES, interpret
from tilec.ir.ops import make
from tilec.ir.text import parse_kernel, print_kernel

INTERLEAVINGS = [(p, 0) for p in POLICIES] + [("random", seed) for seed in range(1, 6)]


def alternating(parts: int, more: str = "") -> str:
    """Group j replaces x = C[0] by (j + 2) x + 1 in its turn, n times; ``more`` follows the turn."""
    names = ", ".join(f'"g{j}"' for j in range(parts))
    blocks = "".join(
        f"""\
  ^():
    for %zero, %n, %one {{
    ^(%i{j}: tile<int32>):
      turn.enter {{chain="c", index={j}, of={parts}}}
      %x{j} = load %C, %zero {{shape=(1,)}} : tile<1xint32>
      %f{j} = const {{dtype=int32, shape=(1,), value={j + 2}}} : tile<1xint32>
      %s{j} = mul %x{j}, %f{j} : tile<1xint32>
      %o{j} = const {{dtype=int32, shape=(1,), value=1}} : tile<1xint32>
      %y{j} = add %s{j}, %o{j} : tile<1xint32>
      store %C, %y{j}, %zero
      turn.exit {{chain="c", index={j}, of={parts}}}
{more}      yield
    }}
    yield
"""
        for j in range(parts)
    )
    return f"""\
tilec.kernel @turns form=scheduled (%C: tensor<int32, 1, contiguous=0>, %n: tile<int32>) {{
  %zero = const {{dtype=int32, shape=(), value=0}} : tile<int32>
  %one = const {{dtype=int32, shape=(), value=1}} : tile<int32>
  warp_groups {{names=({names},), registers=({"64, " * parts}), warps=({"4, " * parts})}} {{
{blocks}  }}
  yield
}}
"""


def run(text: str, trips: int, policy: str, seed: int, programs: int = 2) -> int:
    found = np.ones(1, np.int32)
    interpret(parse_kernel(text), (programs,), [found, trips], policy=policy, seed=seed)
    return int(found[0])


def expected(parts: int, trips: int, programs: int = 2) -> int:
    x = 1
    for _ in range(trips * programs):
        for j in range(parts):
            x = x * (j + 2) + 1
    return int(np.array(x).astype(np.int32))


@pytest.mark.parametrize("parts", [1, 2, 3])
@pytest.mark.parametrize("trips", [0, 1, 4])
def test_groups_alternate(parts: int, trips: int) -> None:
    text = alternating(parts)
    verify(parse_kernel(text))
    assert print_kernel(parse_kernel(print_kernel(parse_kernel(text)))) == print_kernel(parse_kernel(text))
    for policy, seed in INTERLEAVINGS:
        assert run(text, trips, policy, seed) == expected(parts, trips)


def enter(j: int, of: int = 2) -> str:
    return f'      turn.enter {{chain="c", index={j}, of={of}}}\n'


def leave(j: int, of: int = 2) -> str:
    return f'      turn.exit {{chain="c", index={j}, of={of}}}\n'


# what: (code of the verifier or None, edits)
MUTANTS: dict[str, tuple[str | None, list[tuple[str, str]]]] = {
    "no enter": ("X240", [(enter(0), "")]),
    "no exit": ("X240", [(leave(1), "")]),
    "two enters": ("X240", [(enter(0), enter(0) * 2)]),
    "two exits": ("X240", [(leave(0), leave(0) * 2)]),
    "exit first": ("X240", [(enter(0), leave(0)), (leave(0) + "      yield", enter(0) + "      yield")]),
    "no turns in one group": ("X241", [(enter(1), ""), (leave(1), "")]),
    "another round": ("X241", [(enter(1), enter(1, 3)), (leave(1), leave(1, 3))]),
    "a turn for two": ("X241", [(enter(1), enter(0)), (leave(1), leave(0))]),
    "one trip less": (None, [("    for %zero, %n, %one {\n    ^(%i1", "    for %one, %n, %one {\n    ^(%i1")]),
    "exchanged": (None, [(enter(0), "ENTER"), (leave(0), "LEAVE"), (enter(1), enter(0)), (leave(1), leave(0)),
                         ("ENTER", enter(1)), ("LEAVE", leave(1))]),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTANTS)
def test_wrong_turns_are_noticed(name: str) -> None:
    code, edits = MUTANTS[name]
    text = alternating(2)
    for old, new in edits:
        assert text.count(old) == 1
        text = text.replace(old, new)
    if code:
        with pytest.raises(InternalError, match=code):
            verify(parse_kernel(text))
    else:
        verify(parse_kernel(text))

    def noticed(policy: str, seed: int) -> bool:
        try:
            return run(text, 5, policy, seed) != expected(2, 5)
        except TilecError:
            return True

    assert any(noticed(policy, seed) for policy, seed in INTERLEAVINGS)


@pytest.mark.parametrize(
    ("inside", "good"),
    [
        ("      for %zero, %n, %one {{\n      ^(%k: tile<int32>):\n{turn}        yield\n      }}\n", True),
        ("      for %zero, %n, %one {{\n      ^(%k: tile<int32>):\n{enter}        yield\n      }}\n{leave}", False),
        ("      if %yes {{\n      ^():\n{turn}        yield\n      ^():\n        yield\n      }}\n", True),
        ("      if %yes {{\n      ^():\n{enter}        yield\n      ^():\n        yield\n      }}\n{leave}", False),
        ("      if %yes {{\n      ^():\n{enter}        yield\n      ^():\n{enter}        yield\n      }}\n{leave}", True),
    ],
    ids=["whole turns in a loop", "half a turn in a loop", "whole turns in a branch", "half", "in both branches"],
)  # fmt: skip
def test_turns_over_control_flow(inside: str, good: bool) -> None:
    """Both branches may take different numbers of rounds, but not parts of one."""
    body = inside.format(enter=enter(0, 1), leave=leave(0, 1), turn=enter(0, 1) + leave(0, 1))
    text = alternating(1).replace(enter(0, 1), "").replace(leave(0, 1), body)
    text = text.replace("  warp_groups", "  %yes = lt %zero, %n : tile<bool>\n  warp_groups")
    kernel = parse_kernel(text)
    if good:
        verify(kernel)
        assert run(text, 2, "first", 0) == expected(1, 2)
    else:
        with pytest.raises(InternalError, match="X240"):
            verify(kernel)


def test_a_deadlock_says_which_turn_is_awaited() -> None:
    text = alternating(2).replace(leave(0), "")
    with pytest.raises(DeadlockError, match="g1 waits for turn 1 of c at"):
        run(text, 1, "first", 0)


@pytest.mark.parametrize("index", [-1, 2])
def test_a_turn_that_its_chain_does_not_have(index: int) -> None:
    with pytest.raises(TilecValueError, match="V112"):
        make("turn.enter", chain="c", index=index, of=2)
