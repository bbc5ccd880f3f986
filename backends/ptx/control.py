"""Emit rules of control flow. All conditions are uniform over the group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tilec.backends.ptx.context import Emitter, Fragment, Rule, no_op, register_type
from tilec.backends.ptx.numeric import bits, compute_type
from tilec.backends.ptx.shapes import tile_of
from tilec.backends.ptx.words import joined, spread
from tilec.ir.core import Block, Op, Value
from tilec.ir.ptx.module import Int, Not, Reg, Sym
from tilec.passes.schedule.modulo_body import is_product

Move = tuple[Reg, Reg, str]


def moves(e: Emitter, wanted: Sequence[Move]) -> None:
    """Copy (to, from, register type) all at once: cycles go through a new register."""
    todo = [m for m in wanted if m[0] != m[1]]
    while todo:
        sources = {m[1] for m in todo}
        free = [m for m in todo if m[0] not in sources]
        if free:
            to, source, kind = free[0]
            todo.remove(free[0])
            e.emit(f"mov.{kind}", to, source)
        else:
            _, source, kind = todo[0]
            spare = e.copy(source, kind)
            todo = [(to, spare if s == source else s, k) for to, s, k in todo]


def carry(e: Emitter, inits: Sequence[Value], blocks: Sequence[Sequence[Value]]) -> list[Fragment]:
    """Registers for carried values, set to their first values and bound to the blocks' parameters.

    Tiles stay in their registers where nothing else needs these; scalars are always copied,
    for code around may keep what it computed from their registers.
    """
    held = []
    for i, init in enumerate(inits):
        source = e.fragment(init)
        if source.shape:
            held.append(e.take(init))
        else:
            copy = e.copy(source.reg, register_type(source.dtype))
            held.append(Fragment(source.dtype, (), source.layout, (copy,)))
        for params in blocks:
            e.bind(params[i], held[i])
    return held


def rebind(e: Emitter, held: Sequence[Fragment], params: Sequence[Value]) -> None:
    """Bind parameters of one more block to carried registers of which nobody else is left."""
    for fragment, param in zip(held, params, strict=True):
        e.free(fragment.regs)
        e.bind(param, fragment)


def leave(e: Emitter, held: Sequence[Fragment], yielded: Sequence[Value]) -> None:
    """Move what a block yields into the carried registers."""
    wanted: list[Move] = []
    for to, value in zip(held, yielded, strict=True):
        found, kind = e.fragment(value), "b32" if to.words else register_type(to.dtype)
        pairs = (
            zip(to.words, joined(e, found), strict=True)
            if to.words
            else zip(to.regs, found.regs, strict=True)
        )
        wanted += [(t, s, kind) for t, s in pairs]
    moves(e, wanted)


def _for(e: Emitter, op: Op) -> None:
    start, stop, step = op.args[:3]
    (body,) = op.blocks
    t = tile_of(start)
    typed, kind = compute_type(t.dtype), bits(t.dtype)
    i = e.copy(e.fragment(start).reg, kind)
    held = carry(e, op.args[3:], [body.params[1:]])
    held = _in_words(e, body, held)
    e.hold([i])
    e.bind_regs(body.params[0], [i])
    head, end = e.label("loop"), e.label("end")
    e.place(head)
    with e.scope(), e.order.loop(body):
        _leave_if_done(e, typed, i, stop, step, end)
        _unpack(e, held)
        leave(e, held, e.run_block(body))
        e.emit(f"add.{typed}", i, i, e.fragment(step).reg)
    e.emit("bra.uni", head)
    e.place(end)
    _unpack(e, held)
    rebind(e, held, op.results)


def _in_words(e: Emitter, body: Block, held: Sequence[Fragment]) -> list[Fragment]:
    """What a loop carries; floats of up to 16 bits, where that matters to ptxas, several to a word."""
    wanted = _packed_by_need(body)
    made = [
        replace(f, words=joined(e, f)) if p in wanted and f.dtype.is_float else f
        for f, p in zip(held, body.params[1:], strict=True)
    ]
    e.env.update(zip(body.params[1:], made, strict=True))
    return made


def _packed_by_need(body: Block) -> set[Value]:
    """The parameters of a loop's body that are a tile read from memory some iterations ago, or what a
    running product reads as its first operand.

    ptxas packs 16-bit numbers that are computed, but holds those that are loaded one to a register. A
    product's operand must not be packed while another product runs (see `hopper_wgmma.packed`).
    """
    following = dict(zip(body.params[1:], body.yielded, strict=True))
    found = {op.result for op in body.ops if op.name in ("load", "gather")}
    found |= {op.args[0] for op in body.ops if is_product(op)}
    while True:
        more = {p for p, value in following.items() if value in found}
        more |= {value for p, value in following.items() if p in found}
        if more <= found:
            return found
        found |= more


def _unpack(e: Emitter, held: Sequence[Fragment]) -> None:
    for fragment in held:
        if fragment.words:
            spread(e, fragment)


def _leave_if_done(e: Emitter, typed: str, i: Reg, stop: Value, step: Value, end: Sym) -> None:
    limit, known = e.fragment(stop).reg, e.constants.get(step)
    if known is not None:
        done = e.make("pred", f"setp.{'ge' if known > 0 else 'le'}.{typed}", i, limit)
        e.emit("bra.uni", end, pred=done)
        return
    up = e.make("pred", f"setp.gt.{typed}", e.fragment(step).reg, Int(0))
    above = e.make("pred", f"setp.ge.and.{typed}", i, limit, up)
    below = e.make("pred", f"setp.le.and.{typed}", i, limit, e.make("pred", "not.pred", up))
    e.emit("bra.uni", end, pred=e.make("pred", "or.pred", above, below))


def _while(e: Emitter, op: Op) -> None:
    cond, body = op.blocks
    held = carry(e, op.args, [cond.params])
    head, end = e.label("while"), e.label("end")
    e.place(head)
    with e.scope(), e.order.loop(cond, body):
        (more,) = e.run_block(cond)
        e.emit("bra.uni", end, pred=Not(e.fragment(more).reg))
        rebind(e, held, body.params)
        leave(e, held, e.run_block(body))
    e.emit("bra.uni", head)
    e.place(end)
    rebind(e, held, op.results)


def _if(e: Emitter, op: Op) -> None:
    otherwise, end = e.label("else"), e.label("end")
    held = [e.fresh(tile_of(r)) for r in op.results]
    e.emit("bra.uni", otherwise, pred=Not(e.fragment(op.args[0]).reg))
    _side(e, op.blocks[0], held)
    e.emit("bra.uni", end)
    e.place(otherwise)
    _side(e, op.blocks[1], held)
    e.place(end)
    for fragment, result in zip(held, op.results, strict=True):
        e.bind(result, fragment)


def _side(e: Emitter, block: Block, held: Sequence[Fragment]) -> None:
    with e.scope(), e.order.branch():
        leave(e, held, e.run_block(block))


RULES: dict[str, Rule] = {"for": _for, "while": _while, "if": _if, "assume": no_op}
