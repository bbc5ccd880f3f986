"""Chains of pointwise ops on large tiles, emitted a strip of registers at a time.

Op by op, every intermediate tile would be alive as a whole: an epilogue on 128
registers a thread needs a multiple of them. Strip by strip only the inputs, the
results and one strip of everything between are alive. A strip is a tile of its own:
the part of the layout that the upper register bits select.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tilec.ir.core import Block, Op, Value, frozen
from tilec.ir.layout import Basis, Layout, bits_of
from tilec.ir.ops import opdef
from tilec.ir.ptx.module import Reg
from tilec.ir.types import TensorType, TileType, Type, int32, int64
from tilec.passes.layout_rules import memory_anchor

if TYPE_CHECKING:
    from tilec.backends.ptx.context import Emitter, Fragment

LARGE = 128
STRIP = 16
_OFFSETS = (TileType(int32, ()), TileType(int64, ()))
FAMILIES = frozenset({"elementwise1", "elementwise2", "elementwise3", "compare", "cast"})


def units(block: Block) -> Iterator[tuple[Op, ...]]:
    """The ops of a block without its terminator: chains that can go in strips, others alone."""
    chain: list[Op] = []
    for op in block.ops:
        layout = strip_layout(op)
        if chain and layout != strip_layout(chain[0]):
            yield from _unit(chain)
            chain = []
        if layout is not None:
            chain.append(op)
        elif op.name != "yield":
            yield (op,)
    yield from _unit(chain)


def _unit(chain: list[Op]) -> Iterator[tuple[Op, ...]]:
    if len(chain) > 1:
        yield tuple(chain)
    else:
        yield from ((op,) for op in chain)


def strip_layout(op: Op) -> Layout | None:
    """The layout of a pointwise op (or constant, broadcast, gather, load) on a large tile, else None."""
    named = op.name in ("const", "broadcast", "gather") or (op.name == "load" and _loaded_to_fit(op))
    if opdef(op.name).family not in FAMILIES and not named:
        return None
    t = op.result.type
    layout = t.layout if isinstance(t, TileType) else None
    return layout if isinstance(layout, Layout) and layout.registers >= LARGE else None


def _loaded_to_fit(load: Op) -> bool:
    """Whether a load fits the layout of its users, not of memory: then its words are small, and
    nothing is lost where a strip of them is on its way at a time."""
    tensor, t = load.args[0].type, load.result.type
    assert isinstance(tensor, TensorType) and isinstance(t, TileType)
    if not isinstance(t.layout, Layout) or any(v.type not in _OFFSETS for v in load.args[1:]):
        return False
    return t.layout != memory_anchor(tensor, t, 1 << len(t.layout.warp))


@dataclass(frozen=True)
class Strip:
    """The registers of a layout whose upper bits ``fixed`` are set as in ``chosen``."""

    fixed: tuple[Basis, ...]
    chosen: tuple[Basis, ...]

    def layout(self, whole: Layout) -> Layout:
        """The part of a layout, or of one that was projected from it, that lies in the strip."""
        own = [b for b in whole.reg if b in self.fixed]
        shape = tuple(n >> sum(1 for b in own if b[axis]) for axis, n in enumerate(whole.shape))
        return Layout(shape, tuple(b for b in whole.reg if b not in own), whole.lane, whole.warp)

    def origin(self, whole: Layout) -> list[int]:
        """Where in the tile the strip begins."""
        return [sum(b[axis] for b in self.chosen if b in whole.reg) for axis in range(whole.rank)]

    def fragment(self, whole: Fragment) -> Fragment:
        """The registers of a fragment that lie in the strip; a scalar lies in all."""
        if not whole.shape:
            return whole
        layout, place = (
            self.layout(whole.layout),
            dict(zip(whole.layout.register_coords(), whole.regs, strict=True)),
        )
        origin = self.origin(whole.layout)
        coords = (tuple(a + b for a, b in zip(c, origin, strict=True)) for c in layout.register_coords())
        return replace(
            whole, shape=layout.shape, layout=layout, regs=tuple(place[c] for c in coords), words=()
        )


def strips(layout: Layout, size: int = STRIP) -> list[Strip]:
    """The strips of so many registers, in ascending order of registers; one if the layout cannot be cut."""
    count = bits_of(max(1, layout.registers // size))
    if count == 0:
        return [Strip((), ())]
    fixed = layout.reg[len(layout.reg) - count :]
    if any(sum(low) > sum(high) for high in fixed for low in layout.reg[:-count] if _same_axis(low, high)):
        return [Strip((), ())]
    choices = [tuple(b for i, b in enumerate(fixed) if n >> i & 1) for n in range(1 << count)]
    return [Strip(fixed, chosen) for chosen in choices]


def _same_axis(a: Basis, b: Basis) -> bool:
    return [bool(n) for n in a] == [bool(n) for n in b]


def run_chain(e: Emitter, chain: Sequence[Op]) -> None:
    """Emit a chain strip by strip, then bind what ops outside of it use."""
    layout = strip_layout(chain[0])
    assert layout is not None
    made = {op.result for op in chain}
    used = dict.fromkeys(a for op in chain for a in op.args if a not in made)
    inputs = [v for v in used if isinstance(v.type, TileType)]
    parts: dict[Value, list[Reg]] = {op.result: [] for op in chain}
    for strip in strips(layout):
        env = {v: _part(v, strip) for v in inputs}
        for value, part in env.items():
            e.bind(part, strip.fragment(e.fragment(value)))
        for op in chain:
            e.run(clone(e, op, strip, env))
            parts[op.result] += e.fragment(env[op.result]).regs
        for part in env.values():
            e.release(part)
    for op in chain:
        e.bind_regs(op.result, parts[op.result])


def _part(value: Value, strip: Strip) -> Value:
    """A value of the type that a tile has in a strip."""
    t = value.type
    assert isinstance(t, TileType)
    if not isinstance(t.layout, Layout):
        return Value(t, value.hint)
    layout = strip.layout(t.layout)
    return Value(t.with_(shape=layout.shape, layout=layout), value.hint)


def clone(e: Emitter, op: Op, strip: Strip, env: dict[Value, Value]) -> Op:
    """The op for a strip of its result; ``env`` has the parts of its operands, and gets the result's."""
    env[op.result] = result = _part(op.result, strip)
    t = result.type
    assert isinstance(t, TileType)
    attrs = frozen(**{**op.attrs, "shape": t.shape}) if "shape" in op.attrs else op.attrs
    args = tuple(env.get(a, a) for a in op.args)
    if op.name == "load":
        args = (args[0], *_moved(e, args[1:], strip, op.result.type))
    clone = Op(op.name, args, attrs, (result,), (), op.loc)
    if op in e.rough:
        e.rough.add(clone)
    return clone


def _moved(e: Emitter, offsets: Sequence[Value], strip: Strip, whole: Type) -> list[Value]:
    """The offsets of a load, moved to where the strip begins."""
    assert isinstance(whole, TileType) and isinstance(whole.layout, Layout)
    found = []
    for value, start in zip(offsets, strip.origin(whole.layout), strict=True):
        if start:
            kind, regs = ("s64", "b64") if value.type == _OFFSETS[1] else ("s32", "b32")
            moved = e.make(regs, f"add.{kind}", e.fragment(value).reg, start)
            value = Value(value.type, value.hint)
            e.bind_regs(value, [moved])
        found.append(value)
    return found
