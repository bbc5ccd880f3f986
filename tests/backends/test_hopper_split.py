"""Rows split over compute groups on Hopper: rings with several consumers, staging of its own, turns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hopper_kit import (
    MODES,
    Array,
    assembled,
    attention,
    compare,
    disassembled,
    gelu_gemm,
    gemm,
    persistent,
    random_array,
    tile_kernel,
    twin,
    types,
)

from tilec.backends.artifact import Artifact
from tilec.backends.ptx import compile_kernel, hopper, hopper_store, hopper_turns
from tilec.ir.core import Kernel, Op, frozen, walk
from tilec.ir.errors import TilecError
from tilec.ir.forms import verify
from tilec.ir.interp import interpret
from tilec.ir.text import parse_kernel
from tilec.passes import canonicalize, lower, make_async
from tilec.passes.schedule.apply import specialize
from tilec.passes.schedule.joint import KernelPlan
from tilec.passes.subtile import split_rows
from tilec.runtime.emulator import launch

POOL = {2: 240, 3: 160}  # registers of a compute group, by their number


def split(tile: Kernel, parts: int = 2, depth: int = 2) -> Kernel:
    """The kernel in a load group and ``parts`` compute groups, in program order."""
    cut = split_rows(canonicalize(tile), parts)
    assert isinstance(cut, Kernel), cut
    aref = canonicalize(make_async(canonicalize(cut)))
    names = [op.result.hint for op in walk(aref.body) if op.name == "aref.new"]
    made = canonicalize(specialize(KernelPlan(aref, parts, 4, (), (), dict.fromkeys(names, depth), {})))
    ops = tuple(with_registers(op, parts) for op in made.body.ops)
    found = made.with_(body=replace(made.body, ops=ops))
    verify(found)
    return found


def with_registers(op: Op, parts: int) -> Op:
    if op.name != "warp_groups":
        return op
    return op.with_(attrs=frozen(**{**op.attrs, "registers": (24, *(POOL[parts] for _ in range(parts)))}))


def operands(*shapes: tuple[int, ...]) -> list[Array]:
    return [random_array(s, seed=n) for n, s in enumerate(shapes)]


def agree(
    fn: Any, grid: tuple[int, ...], args: list[Array], parts: int = 2, depth: int = 2, **meta: Any
) -> Artifact:
    """The split kernel in the emulator, in every mode, gives what the interpreter gives for the whole one."""
    tile = tile_kernel(fn, args, **meta)
    artifact = compile_kernel(split(tile, parts, depth))
    expected = [twin(a) for a in args]
    interpret(tile, grid, expected)
    compare(artifact, grid, args, expected[-1], 2e-3)
    return artifact


@pytest.mark.parametrize(("keys", "depth"), [(64, 1), (150, 3)])
@pytest.mark.parametrize(("causal", "d"), [(False, 64), (True, 64), (True, 128)])
def test_attention_in_two_groups(causal: bool, d: int, keys: int, depth: int) -> None:
    q, kv = (2, keys, d), (1, keys, d)
    agree(
        attention,
        (-(-keys // 128), 2),
        operands(q, kv, kv, q),
        depth=depth,
        causal=causal,
        D=d,
        BM=128,
        BN=64,
    )


@pytest.mark.parametrize(("parts", "bm"), [(2, 128), (2, 256), (3, 192)])
@pytest.mark.parametrize("fn", [gemm, persistent])
def test_products_in_several_groups(fn: Any, parts: int, bm: int) -> None:
    args = operands((bm + 40, 136), (136, 64), (bm + 40, 64))
    artifact = agree(fn, (2,), args, parts, BM=bm, BN=64, BK=64)
    assert len(re.findall(r"setmaxnreg.inc.* " + str(POOL[parts]), artifact.text)) == parts


def test_each_group_loads_its_part_of_the_epilogue() -> None:
    args = operands((150, 64), (64, 64), (64,), (150, 64))
    agree(gelu_gemm, (2,), args, BM=128, BN=64, BK=64)


def counts(artifact: Artifact) -> list[int]:
    return [int(n) for n in re.findall(r"mbarrier\.init.*, (\d+);", artifact.text)]


def test_a_slot_is_empty_when_both_groups_have_given_it_back() -> None:
    """In order of rings and slots: full, then empty, of q_a, q_b, k and v."""
    args = operands((1, 128, 64), (1, 192, 64), (1, 192, 64), (1, 128, 64))
    artifact = agree(attention, (1,), args, depth=1, causal=False, BM=128)
    assert counts(artifact) == [1, 1, 1, 1, 1, 2, 1, 2]
    early = re.sub(r"(mbarrier\.init.*), 2;", r"\1, 1;", artifact.text)
    assert found_wrong(replace(artifact, text=early), (1,), args, expected_of(attention, args))


def expected_of(fn: Any, args: list[Array]) -> Array:
    expected = [twin(a) for a in args]
    interpret(tile_kernel(fn, args, BM=128), (1,), expected)
    return expected[-1]


def found_wrong(artifact: Artifact, grid: Sequence[int], args: Sequence[Any], expected: Array) -> bool:
    """Whether some mode of the emulator reports a fault or gives another result."""
    for mode, seed in MODES:
        found: list[Any] = [twin(a) for a in args]
        try:
            if launch(artifact, grid, found, mode=mode, seed=seed).reports:  # type: ignore[arg-type]
                return True
        except TilecError:
            return True
        if not np.allclose(found[-1].astype(float), expected.astype(float), rtol=2e-3, atol=2e-3):
            return True
    return False


def test_groups_stage_their_stores_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    args = operands((128, 64), (64, 64), (128, 64))
    kernel = split(tile_kernel(gemm, args, BM=128))
    apart = compile_kernel(kernel)
    for module in (hopper, hopper_store):
        monkeypatch.setattr(module, "staging_key", lambda group: "stores of all")
    together = compile_kernel(kernel)
    assert found_wrong(together, (1,), args, expected_of(gemm, args))
    assert not found_wrong(apart, (1,), args, expected_of(gemm, args))


# Turns.


def alternating(parts: int) -> str:
    """Group j replaces each x of C by (j + 2) x + 1 in its turn, n times."""
    blocks = "".join(
        f"""\
  ^():
    for %zero, %n, %one {{
    ^(%i{j}: tile<int32>):
      turn.enter {{chain="c", index={j}, of={parts}}}
      %x{j} = load %C, %zero {{shape=(128,)}} : tile<128xint32>
      %f{j} = const {{dtype=int32, shape=(128,), value={j + 2}}} : tile<128xint32>
      %s{j} = mul %x{j}, %f{j} : tile<128xint32>
      %o{j} = const {{dtype=int32, shape=(128,), value=1}} : tile<128xint32>
      %y{j} = add %s{j}, %o{j} : tile<128xint32>
      store %C, %y{j}, %zero
      turn.exit {{chain="c", index={j}, of={parts}}}
      yield
    }}
    yield
"""
        for j in range(parts)
    )
    names = ", ".join(f'"g{j}"' for j in range(parts))
    return f"""\
tilec.kernel @turns form=scheduled (%n: tile<int32>, %C: tensor<int32, 1, contiguous=0>) {{
  %zero = const {{dtype=int32, shape=(), value=0}} : tile<int32>
  %one = const {{dtype=int32, shape=(), value=1}} : tile<int32>
  warp_groups {{names=({names},), registers=({"64, " * parts}), warps=({"4, " * parts})}} {{
{blocks}  }}
  yield
}}
"""


def compiled(text: str) -> Artifact:
    kernel = parse_kernel(text)
    verify(kernel)
    return compile_kernel(kernel)


def last_of(parts: int, trips: int) -> Array:
    x = 1
    for j in list(range(parts)) * trips:
        x = x * (j + 2) + 1
    return np.full(128, np.array(x).astype(np.int32))


@pytest.mark.parametrize("trips", [0, 1, 5])
@pytest.mark.parametrize("parts", [1, 2, 3])
def test_groups_alternate(parts: int, trips: int) -> None:
    artifact = compiled(alternating(parts))
    for mode, seed in (*MODES, ("random", 3), ("random", 4)):
        args = [trips, np.ones(128, np.int32)]
        outcome = launch(artifact, (1,), args, mode=mode, seed=seed)  # type: ignore[arg-type]
        assert not outcome.reports
        np.testing.assert_array_equal(args[1], last_of(parts, trips))


def test_two_groups_share_two_barriers() -> None:
    """1 and 2 are the groups' own. The group of the last turn opens the chain."""
    text = compiled(alternating(2)).text
    found = re.findall(r"bar\.(sync|arrive) (\d+), 256;", text)
    assert found == [("sync", "3"), ("arrive", "4"), ("arrive", "3"), ("sync", "4"), ("arrive", "3")]
    assert "256;" not in compiled(alternating(1)).text


@pytest.mark.parametrize("which", range(5))
def test_every_barrier_of_a_turn_is_needed(which: int) -> None:
    """Without one of them somebody waits for ever, or goes ahead in another's turn."""
    artifact = compiled(alternating(2))
    spots = list(re.finditer(r"    bar\.(sync|arrive) \d+, 256;\n", artifact.text))
    spot = spots[which]
    text = artifact.text[: spot.start()] + artifact.text[spot.end() :]
    code = None
    for mode, seed in MODES:
        try:
            launch(replace(artifact, text=text), (1,), [3, np.ones(128, np.int32)], mode=mode, seed=seed)  # type: ignore[arg-type]
        except TilecError as error:
            code = error.code
    assert code is not None
    if spot.group(1) == "arrive":
        assert code == "D400"


def test_a_turn_in_a_warp_group_that_only_copies_waits_with_all_its_threads() -> None:
    text = compiled(alternating(2)).text
    assert "elect.sync" not in text


def many_chains(chains: int) -> str:
    """Two groups that alternate in several chains, one after the other."""
    blocks = "".join(
        "  ^():\n"
        + "".join(
            f'    {name} {{chain="c{c}", index={j}, of=2}}\n'
            for c in range(chains)
            for name in hopper_turns.TURNS
        )
        + "    yield\n"
        for j in range(2)
    )
    return f"""\
tilec.kernel @turns form=scheduled (%n: tile<int32>) {{
  warp_groups {{names=("a", "b"), registers=(64, 64), warps=(4, 4)}} {{
{blocks}  }}
  yield
}}
"""


@pytest.mark.parametrize("chains", [6, 7])
def test_there_are_sixteen_barriers(chains: int) -> None:
    """Three are taken: that of all threads, and one of each group. A chain too many has none."""
    made = compiled(many_chains(chains))
    used = {int(n) for n in re.findall(r"bar\.(?:sync|arrive) (\d+)", made.text)}
    assert max(used) == 14
    for mode, seed in MODES:
        assert not launch(made, (1,), [0], mode=mode, seed=seed).reports  # type: ignore[arg-type]


def test_turns_that_follow_each_other_in_one_group_need_no_barrier() -> None:
    text = many_chains(1).replace("of=2", "of=3")
    extra = "".join(f'    {name} {{chain="c0", index=2, of=3}}\n' for name in hopper_turns.TURNS)
    parts = text.rsplit("    yield\n", 1)
    kernel = parse_kernel(extra.join((parts[0], "    yield\n" + parts[1])))
    verify(kernel)
    (chain,) = hopper_turns.plan_turns(kernel).values()
    assert chain.owners == ("a", "b", "b")
    assert [h and h.barrier for h in chain.before] == [4, 3, None] or [
        h and h.barrier for h in chain.before
    ] == [3, 4, None]
    assert not launch(compile_kernel(kernel), (1,), [0]).reports


# What the assembler makes of it.

F16 = ("f16", 2)
BIG: dict[str, tuple[Any, tuple[Any, ...], dict[str, Any]]] = {
    "gemm": (gemm, types(F16, F16, F16), {"BM": 128, "BN": 256, "BK": 64}),
    **{
        f"attention {d}{' causal' * causal}": (
            attention, types(*[("f16", 3)] * 4), {"D": d, "causal": causal, "BM": 128, "BN": 128}
        )
        for d in (64, 128) for causal in (False, True)
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "planned"),
    [*((name, False) for name in BIG), ("attention 128", True), ("attention 128 causal", True)],
)
def test_the_assembler_spills_nothing_and_keeps_products_asynchronous(name: str, planned: bool) -> None:
    fn, signature, meta = BIG[name]
    tile = fn.trace(list(signature), **meta)
    kernel = lower(tile).scheduled if planned else split(tile, depth=3 if name == "gemm" else 2)
    result = assembled(compile_kernel(kernel).text)
    assert (result.spill_stores, result.spill_loads) == (0, 0)
    assert not [m for m in result.messages if m.code.startswith("C75")]
    sass = disassembled(result)
    groups = len(next(op for op in walk(kernel.body) if op.name == "warp_groups").blocks)
    assert len(re.findall("USETMAXREG", sass)) == groups
