"""Machine tables and the costs that follow from them."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from tilec.ir.core import Block, Op, Value
from tilec.ir.types import DType, TileType, bool_, float8_e4m3, float16, float32, int32
from tilec.passes.schedule.costs import Cost, cost, product_cycles
from tilec.passes.schedule.loops import gemm
from tilec.passes.schedule.machines import A100, B200, H100, MACHINES, Copy, Host, Machine, Product, limits
from tilec.passes.schedule.machines.table import SHARED
from tilec.passes.schedule.model import Problem, Segment
from tilec.passes.schedule.search import solve
from tilec.passes.schedule.simulate import execute

UNSOURCED = {"name", "device", "sources"}


@pytest.mark.parametrize("machine", MACHINES.values(), ids=lambda m: m.device)
def test_every_figure_has_one_source(machine: Machine) -> None:
    named = [name for name, _ in machine.sources]
    given = {f.name for f in fields(machine) if getattr(machine, f.name) != 0} - UNSOURCED
    assert sorted(named) == sorted(given)


@pytest.mark.parametrize("machine", MACHINES.values(), ids=lambda m: m.device)
def test_tables_are_consistent(machine: Machine) -> None:
    units = dict(machine.units)
    assert set(dict(machine.lanes)) == set(dict(machine.latency)) <= set(units)
    assert machine.copy.unit in units and ("TMEM" in units) == bool(machine.tmem)
    assert machine.reg_limit % machine.reg_step == 0
    assert MACHINES[machine.name] is machine


# cycles per m64nNk16, both operands in shared memory: flash-vla hardware-unit-test/sm90
WGMMA = {8: 18.9, 16: 20.7, 32: 24.7, 64: 32.8, 96: 48.7, 128: 65.0, 192: 97.1, 256: 129.3}


def tile(*shape: int, dtype: DType = float32) -> Value:
    return Value(TileType(dtype, shape))


def op(name: str, *args: Value, result: Value | None = None, **attrs: object) -> Op:
    results = () if name == "store" else (result or args[0],)
    return Op(name, args, attrs, results)


def dot(m: int, n: int, k: int, dtype: DType = float16) -> Op:
    acc = tile(m, n)
    return op("dot", tile(m, k, dtype=dtype), tile(k, n, dtype=dtype), acc, result=acc)


def held(c: Cost) -> dict[str, int]:
    assert all(s.offset == 0 and s.amount == 1 for s in c.reserve)
    return {s.unit: s.length for s in c.reserve}


@pytest.mark.parametrize(("n", "cycles"), WGMMA.items())
def test_products_on_hopper_take_what_was_measured(n: int, cycles: float) -> None:
    many = cost(dot(64, n, 16 * 100), H100)
    assert held(many)["TC"] / 100 == pytest.approx(cycles, rel=0.015)
    assert many.cyc == H100.issue and many.latency == product_cycles(dot(64, n, 1600), H100) + 46


@pytest.mark.parametrize(
    ("machine", "dtype", "flops"),
    [
        (A100, float16, 2048), (A100, float32, 1024),
        (H100, float16, 4096), (H100, float32, 2048), (H100, float8_e4m3, 8192),
        (B200, float16, 8192), (B200, float32, 4096), (B200, float8_e4m3, 16384),
    ],
)  # fmt: skip
def test_large_products_reach_the_peak(machine: Machine, dtype: DType, flops: int) -> None:
    """Dense FLOP per clock and SM: XLA's cuda_core_info_table.cc."""
    one = cost(dot(128, 256, 512, dtype), machine)
    assert 2 * 128 * 256 * 512 / held(one)["TC"] == pytest.approx(flops, rel=0.01)


def test_products_of_few_rows_use_single_warps() -> None:
    assert held(cost(dot(16, 256, 16), H100))["TC"] == 51  # 2617 FLOP per clock: flash-vla
    assert cost(dot(16, 256, 16), H100).cyc == 51


def test_a_chain_on_blackwell_is_slower_than_other_products() -> None:
    """Per k16 of one accumulator 74 and 138 cycles, a public probe; others follow after 64 and 128."""
    assert [product_cycles(dot(128, n, 160), B200) for n in (128, 256)] == [740, 1380]
    assert [held(cost(dot(128, n, 160), B200))["TC"] for n in (128, 256)] == [640, 1280]
    assert cost(dot(128, 128, 64), B200).latency == 559  # triton, NVLatencyModel.cpp


def test_attention_in_units_of_the_paper() -> None:
    """One block of 128 x 128 x 128 on the H100: arXiv 2603.05451 counts 2048, 1024, 256 and 128 cycles."""
    s, row = tile(128, 128), tile(128)
    assert 2 * held(cost(dot(128, 128, 128), H100))["TC"] == pytest.approx(2048, rel=0.02)
    assert held(cost(op("exp2", s), H100)) == {"XU": 1024}
    assert held(cost(op("reduce", s, result=row, kind="max"), H100)) == {"ALU": 256}
    for one in (op("sub", s, s), op("mul", s, s), op("reduce", s, result=row, kind="sum")):
        assert held(cost(one, H100)) == {"FMA": 128}
    half = tile(128, 128, dtype=float16)
    assert held(cost(op("cast", s, result=half), H100)) == {"ALU": 128}


def test_simt_code_costs_its_group_all_its_time() -> None:
    s = tile(64, 128)
    exp = op("exp2", s)
    assert cost(exp, H100).cyc == 512 and cost(exp, H100).latency == 528
    assert [cost(exp, H100, warps=w).cyc for w in (1, 2, 4, 8)] == [2048, 1024, 512, 512]
    assert [cost(exp, H100, warps=w).regs for w in (4, 8)] == [64, 32]
    assert {c.reserve for c in (cost(exp, H100, warps=w) for w in (1, 4))} == {(Segment("XU", 0, 512),)}
    reduce = cost(op("reduce", s, result=tile(64), kind="max"), H100)
    assert (reduce.cyc, reduce.latency, reduce.regs) == (128 + 40, 128 + 40 + 4, 1)


def test_many_instructions_are_bound_by_issue() -> None:
    erf = cost(op("erf", tile(64, 128)), H100)
    assert held(erf) == {"FMA": 17 * 64, "ALU": 3 * 128, "XU": 2 * 512} and erf.cyc == 22 * 64


def test_integers_and_small_floats() -> None:
    i, h = tile(128, 128, dtype=int32), tile(128, 128, dtype=float16)
    assert held(cost(op("add", i, i), H100)) == {"ALU": 256}
    assert held(cost(op("mul", i, i), H100)) == {"FMA": 128}
    assert held(cost(op("add", h, h), H100)) == {"FMA": 384, "ALU": 256}  # widened, added, rounded
    assert held(cost(op("lt", i, i, result=tile(128, 128, dtype=bool_)), H100)) == {"ALU": 256}
    assert held(cost(op("cast", tile(128, 128), result=i), H100)) == {"ALU": 512, "XU": 1024}


def test_loads() -> None:
    load = op("load", result=tile(128, 64, dtype=float16))
    assert cost(load, H100, through_ring=True) == Cost((Segment("TMA", 0, 256),), 32, 1256)
    assert cost(load, A100, through_ring=True) == Cost((Segment("LSU", 0, 256),), 256, 470 + 256)
    assert held(cost(load, H100)) == {"LSU": 256} and cost(load, H100).latency == 640 + 256


def test_shapes_and_scalars_are_free() -> None:
    assert cost(op("reshape", tile(4, 4)), H100) == cost(op("add", tile(), tile()), H100).__class__(
        (), 0, 0, 1
    )
    assert cost(op("aref.get", tile(4, 4)), H100).reserve == ()


def test_of_two_branches_the_dearer_one_counts() -> None:
    s = tile(128, 128)
    blocks = tuple(Block((), (op(name, s), Op("yield"))) for name in ("exp2", "abs"))
    branch = cost(Op("if", (tile(dtype=bool_),), blocks=blocks), H100)
    assert held(branch) == {"XU": 1024, "FMA": 128} and branch.cyc == 1040
    loop = cost(Op("for", blocks=(Block((), (op("abs", s), op("abs", s), Op("yield"))),)), H100)
    assert held(loop) == {"FMA": 256} and loop.cyc == 2 * 132


def test_a_program_keeps_memory_for_other_ends() -> None:
    assert limits(H100).smem == 232448 - 2048 and limits(H100, smem=1000).smem == 232448 - 3048
    assert limits(B200, tmem=128).tmem == 384 and limits(A100, smem=10**6).smem == 0
    assert dict(limits(H100).units) == dict(H100.units)


TOY = Machine(
    name="toy_1",
    device="Toy",
    units=(("TC", 2), ("FMA", 1), ("ALU", 1), ("XU", 1), ("LSU", 1), ("DMA", 1)),
    lanes=(("FMA", 32), ("ALU", 32), ("XU", 8), ("LSU", 32)),
    latency=(("FMA", 2), ("ALU", 2), ("XU", 9), ("LSU", 20)),
    product=Product(32, ((0, 1),), ((0, 1),), 10, True),
    warp_product=Product(16, ((0, 2),), ((0, 2),), 10, False),
    copy=Copy("DMA", 32, 300, 100, 8, 50),
    host=Host(1, 1.0, 100),
    issue=4,
    smem=100_000,
    global_latency=200,
    sources=(("units", "invented"), *SHARED),
)


def test_a_table_is_all_that_a_machine_needs() -> None:
    """The GEMM loop with costs and limits of an invented machine with two tensor cores."""
    product, load = (
        cost(dot(64, 256, 64), TOY),
        cost(op("load", result=tile(64, 256, dtype=float16)), TOY, through_ring=True),
    )
    assert product == Cost((Segment("TC", 0, 2048),), 4, 2058, 128) and load.reserve == (
        Segment("DMA", 0, 1024),
    )
    loop = gemm()
    ops = tuple(replace(o, reserve=load.reserve if o.stream else product.reserve, cyc=4) for o in loop.ops)
    edges = tuple(replace(e, d=load.latency if e.mem == "smem" else 2048) for e in loop.edges)
    problem = Problem("toy GEMM", ops, edges, loop.buffers, limits(TOY), loop.groups_max)
    answer = solve(problem, "fewest", polish=False)
    assert answer.status == "optimal" and answer.schedule is not None
    assert answer.schedule.ii == 2048  # both products at once, and two loads of 1024 on one DMA engine
    assert execute(problem, answer.schedule).ii == 2048
