"""Instructions of a whole warp: shuffles, votes, reductions, election, matrix loads."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tilec.ir.ptx.module import Instruction, Operand, Pair, Reg
from tilec.runtime.emulator.alu import Builder, mods
from tilec.runtime.emulator.memory import nothing
from tilec.runtime.emulator.numbers import Array
from tilec.runtime.emulator.operands import DTYPE, getter, per_thread, setter
from tilec.runtime.emulator.program import Program, Run
from tilec.runtime.emulator.strand import Wait

if TYPE_CHECKING:
    from tilec.runtime.emulator.strand import Strand


def pair(operand: Operand) -> tuple[Operand, Operand]:
    """(d, p) of a destination that may be ``d|p``."""
    return (operand.first, operand.second) if isinstance(operand, Pair) else (operand, Reg("_"))


def missing(s: Strand, mask: Any) -> Wait | None:
    """A wait until all live threads that the member masks name are in the strand."""
    wanted = np.zeros(s.cta.size, bool)
    masks = per_thread(s, mask)
    for warp in s.warps:
        first = int(warp) * 32
        value = int(masks[np.searchsorted(s.threads, first)])
        lanes = np.arange(first, min(first + 32, s.cta.size))
        wanted[lanes] = (value >> (lanes - first)) & 1
    wanted &= s.cta.live
    if wanted[s.threads].sum() == wanted.sum():
        return None
    return Wait(lambda: False, lambda: "waits for the other threads of its member mask")


def _together(member: Callable[[Strand], Any], act: Callable[[Strand], None]) -> Run:
    """``act``, once all threads of the member mask are there."""

    def run(s: Strand) -> Wait | None:
        wait = None if s.whole() else missing(s, member(s))
        if wait is None:
            act(s)
        return wait

    return run


def by_lane(s: Strand, value: Any) -> Array:
    """Values as (warps, 32), 0 where a lane is not in the strand."""
    value = per_thread(s, value)
    if s.n == 32 * len(s.warps):
        return np.ascontiguousarray(value).reshape(-1, 32)
    out = np.zeros((len(s.warps), 32), value.dtype)
    out[_position(s)] = value
    return out


def _position(s: Strand) -> tuple[Array, Array]:
    return np.searchsorted(s.warps, s.threads >> 5), s.threads & 31


def from_lanes(s: Strand, table: Array) -> Array:
    """The strand's values of a (warps, 32) table."""
    result: Array = table.ravel() if s.n == 32 * len(s.warps) else table[_position(s)]
    return result


def shfl(inst: Instruction, program: Program) -> Run:
    mode = mods(inst)[1]
    to, valid = pair(inst.operands[0])
    put, put_valid = setter(program, to, "b32", inst), setter(program, valid, "pred", inst)
    a, b, c, member = (getter(program, o, "b32", inst) for o in inst.operands[1:5])

    def act(s: Strand) -> None:
        value, lane = by_lane(s, a(s)), np.arange(32)
        offset, control = by_lane(s, b(s)) & np.uint32(31), by_lane(s, c(s))
        source, inside = _source(mode, lane, offset.astype(np.int64), control.astype(np.int64))
        picked = np.take_along_axis(value, np.where(inside, source, lane), axis=1)
        put(s, from_lanes(s, picked))
        put_valid(s, from_lanes(s, inside))

    return _together(member, act)


def _source(mode: str, lane: Array, offset: Array, control: Array) -> tuple[Array, Array]:
    """Source lane and whether it is in range; segment mask and clamp come from ``control``."""
    segment, clamp = (control >> 8) & 31, control & 31
    low = lane & segment
    high = low | (clamp & ~segment)
    if mode == "up":
        source = lane - offset
        return source, source >= high
    source = {"down": lane + offset, "bfly": lane ^ offset, "idx": low | (offset & ~segment)}[mode]
    return source, source <= high


def vote(inst: Instruction, program: Program) -> Run:
    kind = mods(inst)[1]
    put = setter(program, inst.operands[0], "b32" if kind == "ballot" else "pred", inst)
    value, member = (
        getter(program, inst.operands[1], "pred", inst),
        getter(program, inst.operands[2], "b32", inst),
    )

    def act(s: Strand) -> None:
        table, here = by_lane(s, value(s)), by_lane(s, np.ones(s.n, bool))
        result = _VOTES[kind](table, here)
        put(s, from_lanes(s, np.repeat(result[:, None], 32, axis=1)))

    return _together(member, act)


def _ballot(table: Array, here: Array) -> Any:
    return ((table & here) << np.arange(32, dtype=np.uint64)).sum(axis=1).astype(np.uint32)


_VOTES: dict[str, Callable[[Array, Array], Any]] = {
    "ballot": _ballot,
    "all": lambda t, here: (t | ~here).all(axis=1),
    "any": lambda t, here: (t & here).any(axis=1),
    "uni": lambda t, here: (t | ~here).all(axis=1) | ~(t & here).any(axis=1),
}
_REDUX: dict[str, Callable[..., Array]] = {
    "add": np.add.reduce, "min": np.minimum.reduce, "max": np.maximum.reduce,
    "and": np.bitwise_and.reduce, "or": np.bitwise_or.reduce, "xor": np.bitwise_xor.reduce,
}  # fmt: skip


def redux(inst: Instruction, program: Program) -> Run:
    parts = mods(inst)
    operation, type = parts[1], parts[-1]
    reduce = _redux_floats(parts) if type == "f32" else _REDUX[operation]
    put = setter(program, inst.operands[0], type, inst)
    value, member = (
        getter(program, inst.operands[1], type, inst),
        getter(program, inst.operands[2], "b32", inst),
    )

    def act(s: Strand) -> None:
        values, warp = per_thread(s, value(s)), np.searchsorted(s.warps, s.threads >> 5)
        results = [reduce(values[warp == w]) for w in range(len(s.warps))]
        put(s, np.array(results).astype(DTYPE[type])[warp])

    return _together(member, act)


def _redux_floats(parts: list[str]) -> Callable[[Array], Array]:
    """min and max of f32, of magnitudes or not; NaN counts only with .NaN."""
    if "NaN" in parts:
        reduce = np.minimum.reduce if "min" in parts else np.maximum.reduce
    else:
        reduce = np.fmin.reduce if "min" in parts else np.fmax.reduce
    return lambda values: reduce(np.abs(values) if "abs" in parts else values)


def elect(inst: Instruction, program: Program) -> Run:
    """One lane of the member mask; RANDOM takes another one per mask, always the same."""
    to, chosen = pair(inst.operands[0])
    put, put_chosen = setter(program, to, "b32", inst), setter(program, chosen, "pred", inst)
    member = getter(program, inst.operands[1], "b32", inst)

    def act(s: Strand) -> None:
        warp = np.searchsorted(s.warps, s.threads >> 5)
        leader = np.zeros(s.n, np.uint32)
        for w in range(len(s.warps)):
            lanes = (s.threads & 31)[warp == w]
            turn = s.cta.machine.seed * 7 + 3 if s.cta.machine.mode == "random" else 0
            leader[warp == w] = lanes[turn % len(lanes)]
        put(s, leader)
        put_chosen(s, leader == (s.threads & 31))

    return _together(member, act)


def activemask(inst: Instruction, program: Program) -> Run:
    put = setter(program, inst.operands[0], "b32", inst)

    def run(s: Strand) -> None:
        here = by_lane(s, np.ones(s.n, bool))
        put(s, from_lanes(s, np.repeat(_ballot(here, here)[:, None], 32, axis=1)))

    return run


def match(inst: Instruction, program: Program) -> Run:
    """match.any and match.all: the lanes with an equal value."""
    kind, type = mods(inst)[0], mods(inst)[-1]
    to, same = pair(inst.operands[0])
    put, put_same = setter(program, to, "b32", inst), setter(program, same, "pred", inst)
    value, member = (
        getter(program, inst.operands[1], type, inst),
        getter(program, inst.operands[2], "b32", inst),
    )

    def act(s: Strand) -> None:
        table, here = by_lane(s, value(s)), by_lane(s, np.ones(s.n, bool))
        equal = (table[:, :, None] == table[:, None, :]) & here[:, None, :]
        bits = (equal << np.arange(32, dtype=np.uint64)).sum(axis=2).astype(np.uint32)
        everyone = (bits == _ballot(here, here)[:, None]) | ~here
        unanimous = np.repeat(everyone.all(axis=1)[:, None], 32, axis=1)
        put(s, from_lanes(s, bits if kind == "any" else np.where(unanimous, bits, np.uint32(0))))
        put_same(s, from_lanes(s, unanimous))

    return _together(member, act)


TABLE: dict[str, Builder] = {
    "shfl": shfl, "vote": vote, "redux": redux, "elect": elect, "activemask": activemask, "match": match,
    "nanosleep": nothing, "pmevent": nothing, "griddepcontrol": nothing,
}  # fmt: skip
