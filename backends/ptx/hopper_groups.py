"""Warp groups: who runs what, and how many registers each may use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tilec.backends.ptx import hopper_turns
from tilec.backends.ptx.context import Emitter, Group
from tilec.backends.ptx.hopper_operands import REGISTER_FILE, WARPGROUP
from tilec.backends.ptx.hopper_ring import open_sides
from tilec.ir.core import Block, Op, walk
from tilec.ir.layout import LANE_BITS
from tilec.ir.ops import opdef
from tilec.ir.ptx.module import Not, Pair, Reg, Sym
from tilec.ir.types import TileType

if TYPE_CHECKING:
    from tilec.backends.ptx.hopper import Hopper

REGISTER_STEP = 8
# ptxas judges accumulators by the launch count, whatever setmaxnreg says later:
# m64n256 needs at least 154.
LEAST_AT_LAUNCH = 168


def launch_registers(op: Op) -> int:
    """Registers per thread at launch: the pool that this gives covers all groups."""
    warps, registers = op.attrs["warps"], op.attrs["registers"]
    total: int = sum(w * r for w, r in zip(warps, registers, strict=True))
    unit = int(sum(warps)) * REGISTER_STEP
    most = REGISTER_FILE // (unit << LANE_BITS) * REGISTER_STEP
    return max(-(-total // unit) * REGISTER_STEP, min(LEAST_AT_LAUNCH, most))


def adjusts(op: Op) -> bool:
    """Whether groups can trade registers: setmaxnreg is for whole warpgroups."""
    return all(w % WARPGROUP == 0 for w in op.attrs["warps"]) and len(set(op.attrs["registers"])) > 1


def run_groups(e: Emitter, op: Op, hopper: Hopper) -> None:
    """The rule of `warp_groups`: each group's warps branch to its block, and meet at the end."""
    end, first = e.label("done"), 0
    launch = launch_registers(op)
    if adjusts(op):
        e.builder.directive("minnctapersm", 1)
        e.builder.directive("maxnreg", launch)
    names, warps, registers = (op.attrs[n] for n in ("names", "warps", "registers"))
    for number, (name, n, regs, block) in enumerate(zip(names, warps, registers, op.blocks, strict=True), 1):
        following = e.label("group")
        beyond = e.make("pred", "setp.ge.u32", e.thread(), (first + n) << LANE_BITS)
        e.emit("bra.uni", following, pred=beyond)
        with e.in_group(Group(name, first, n, number)):
            e.comment(f"group {name}: {n} warps")
            if adjusts(op):
                way = "dec" if regs < launch else "inc"
                e.emit(f"setmaxnreg.{way}.sync.aligned.u32", regs)
            _run_group(e, block, hopper)
        e.emit("bra.uni", end)
        e.place(following)
        first += n
    e.place(end)


def _run_group(e: Emitter, block: Block, hopper: Hopper) -> None:
    hopper.alone = _one_thread_suffices(block, hopper)
    out = e.label("idle")
    if hopper.alone:
        _elect(e, out)
    hopper_turns.begin(e, e.group.name, hopper.turns)
    open_sides(e, block, hopper.open)
    hopper.prepare(e, block)
    e.run_block(block)
    hopper.end(e, e.group.name)
    e.place(out)
    hopper.alone = False


def _elect(e: Emitter, out: Sym) -> None:
    """All but one thread of the first warp leave."""
    others = e.make("pred", "setp.ge.u32", e.thread(), 1 << LANE_BITS)
    e.emit("bra.uni", out, pred=others)
    chosen = e.reg("pred")
    e.emit("elect.sync", Pair(Reg("_"), chosen), -1)
    e.emit("bra", out, pred=Not(chosen))


def _one_thread_suffices(block: Block, hopper: Hopper) -> bool:
    """Whether a group only starts copies: no tiles in its registers, no slots borrowed, no turns."""
    for op in walk(block):
        if op.name in ("aref.get", *hopper_turns.TURNS) or opdef(op.name).effect == "write":
            return False
        if op.name == "aref.put" and not hopper.rings[op.args[0]].tma:
            return False
        tiles = [r for r in op.results if isinstance(r.type, TileType) and r.type.shape]
        if tiles and not (op.name == "load" and hopper.by_copy(op)):
            return False
    return True
