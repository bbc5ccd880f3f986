"""make_async: say what communicates. Loads that feed products go through arefs.

TILE -> AREF. Every load or gather that only tensor core products read becomes
load; put; get, with a release after its last use. TMA fills the ring where it can, else
threads do (`thread_copies.py`). Nothing else changes, so the program still runs in order, and
the notes say why TMA does not do a load, and why a load or product was left as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from string import ascii_lowercase

from tilec.ir.core import Block, Kernel, Op, Value, definitions, frozen, uses, walk
from tilec.ir.ops import attr, make, written_tensors
from tilec.ir.types import TensorType, TileType
from tilec.passes.async_rules import Use, dot_uses, is_view, source_of
from tilec.passes.copy_rules import TMA, CopyRules
from tilec.passes.layout_rules import may_stay
from tilec.passes.multiples import row_axis
from tilec.passes.rewrite import where
from tilec.passes.thread_copies import kind, why_not_threads

LOAD, COMPUTE = "load", "compute"
Part = int | None  # of a kernel whose rows are split


@dataclass(frozen=True)
class Plan:
    """Loads and gathers to make asynchronous, each with the products it feeds; those of them that
    threads do, as they are to be; and the notes."""

    loads: dict[Op, tuple[Op, ...]]
    threads: dict[Op, Op]
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Ring:
    """Loads of one block that share a ring, and the ring's `aref.new`."""

    loads: tuple[Op, ...]
    new: Op


def make_async(kernel: Kernel, rules: CopyRules = TMA) -> Kernel:
    """The AREF form of a TILE kernel; ``attrs["notes"]`` says what stayed synchronous."""
    plan = choose_loads(kernel, rules)
    rings = form_rings(kernel.body, plan.loads, plan.threads)
    body = _Inserter(kernel.body, rings, plan.threads).block(kernel.body)
    body = Block(body.params, (*(r.new for r in rings), *body.ops))
    attrs = frozen(**{**kernel.attrs, "notes": plan.notes})
    return kernel.with_(form="aref", body=body, attrs=attrs)


def choose_loads(kernel: Kernel, rules: CopyRules = TMA) -> Plan:
    """Loads whose every reader is a product that can run asynchronously.

    With TMA a product needs its second operand from such a load and its first from one
    or from registers, so refusing a load can refuse a product and its other
    load: repeat until nothing changes.
    """
    notes: dict[Op, str] = {}
    defs = definitions(kernel.body)
    found, slow = _candidates(kernel, defs, notes, rules)
    for dot in (op for op in walk(kernel.body) if op.name == "dot"):
        reason = rules.product(dot)
        if reason is not None:
            notes[dot] = reason
    while True:
        for dot in (op for op in walk(kernel.body) if op.name == "dot" and op not in notes):
            reason = _why_not_fed(dot, found, defs) if rules.fed else None
            if reason is not None:
                notes[dot] = reason
        refused = [load for load, feeds in found.items() if any(u.dot in notes for u in feeds)]
        if not refused:
            break
        for load in refused:
            notes[load] = "a product that reads it is not asynchronous"
            del found[load]
    loads = {load: tuple(dict.fromkeys(u.dot for u in feeds)) for load, feeds in found.items()}
    threads = {load: _by_threads(load, defs) for load in slow if load in loads}
    return Plan(loads, threads, _sentences(kernel, notes, {load: slow[load] for load in threads}))


def _by_threads(load: Op, defs: dict[Value, Op]) -> Op:
    """The load or gather as the threads of the load group do it."""
    along = {"along": row_axis(load, defs)} if load.name == "gather" else {}
    return load.with_(attrs=frozen(**{**load.attrs, "threads": True, **along}))


def _sentences(kernel: Kernel, notes: dict[Op, str], slow: dict[Op, str]) -> tuple[str, ...]:
    ops = [op for op in walk(kernel.body) if op in notes or op in slow]
    if not any(op.name == "dot" for op in walk(kernel.body)):
        return ("no product in the kernel: there is nothing to overlap loads with",)
    ways = {op: f"not asynchronous: {notes[op]}" for op in notes}
    ways |= {op: f"done by threads, not by TMA: {slow[op]}" for op in slow}
    return tuple(f"{where(op)}: this {op.name} is {ways[op]}" for op in ops)


def _candidates(
    kernel: Kernel, defs: dict[Value, Op], notes: dict[Op, str], rules: CopyRules
) -> tuple[dict[Op, list[Use]], dict[Op, str]]:
    """Loads and gathers that only products read, if copies can do them and the author did not object;
    and why TMA cannot do those that threads must."""
    users, written = uses(kernel.body), written_tensors(kernel.body)
    found: dict[Op, list[Use]] = {}
    slow: dict[Op, str] = {}
    for load, wanted in _loads(kernel.body, True, rules.threads):
        source = load.args[0].type
        assert isinstance(source, TensorType)
        feeds = dot_uses(load.result, source.contiguous if load.name == "load" else None, users)
        if not feeds or (isinstance(feeds, str) and not _feeds_a_dot(load.result, users)):
            continue
        reason = feeds if isinstance(feeds, str) else _why_not_copied(load, feeds, written, defs, rules)
        if reason is not None and wanted and rules.threads and not isinstance(feeds, str):
            slow[load], reason = reason, why_not_threads(load, written)
        if not wanted:
            reason = "its loop says specialize=False"
        if reason is not None:
            notes[load] = reason
        elif not isinstance(feeds, str):
            found[load] = feeds
    return found, slow


def _why_not_copied(
    load: Op, feeds: list[Use], written: set[Value], defs: dict[Value, Op], rules: CopyRules
) -> str | None:
    reason = rules.load(load, written, defs)
    return reason or next((r for r in map(rules.operand, feeds) if r is not None), None)


def _loads(block: Block, wanted: bool, gathers: bool) -> Iterator[tuple[Op, bool]]:
    """Loads (and gathers) in program order, and whether their loops allow specialisation."""
    for op in block.ops:
        if op.name == "load" or (gathers and op.name == "gather"):
            yield op, wanted
        inside = wanted and op.attrs.get("specialize") is not False
        for inner in op.blocks:
            yield from _loads(inner, inside, gathers)


def _feeds_a_dot(value: Value, users: dict[Value, list[Op]]) -> bool:
    return any(
        op.name == "dot" or (is_view(op) and _feeds_a_dot(op.result, users)) for op in users.get(value, [])
    )


def _why_not_fed(dot: Op, loads: dict[Op, list[Use]], defs: dict[Value, Op]) -> str | None:
    a, b = (source_of(v, defs) for v in dot.args[:2])
    if b is None or b.name != "load":
        return (
            f"its second operand is made by {b.name} at {where(b)}" if b else "its second operand is carried"
        )
    if b not in loads:
        return f"its second operand comes from the load at {where(b)}, which is not asynchronous"
    first = dot.args[0].type
    assert isinstance(first, TileType)
    if a not in loads and not may_stay(dot):
        return f"its first operand is {first.dtype} in registers"
    return None


def form_rings(body: Block, loads: dict[Op, tuple[Op, ...]], threads: Mapping[Op, Op]) -> tuple[Ring, ...]:
    """One ring for the loads of a block that feed one common product, or its parts, and that one kind
    of copy does; else one each. ``threads``: loads that threads do.

    If the rows are split, the parts of A and their common B share a ring that all parts read.
    """
    parts = {attr(dot, "part") for dots in loads.values() for dot in dots}
    taken: set[str] = set()
    kinds = {load: kind(threads.get(load, load)) for load in loads}
    found = [group for block in _blocks(body) for group in _groups(block, loads, kinds)]
    return tuple(_ring(group, loads, len(parts), taken) for group in found)


def _groups(block: Block, loads: dict[Op, tuple[Op, ...]], kinds: Mapping[Op, str]) -> list[tuple[Op, ...]]:
    """The loads of a block by the rings that they share: those linked by products, one of each part."""

    def fed(load: Op) -> set[Op]:
        dots = loads[load]
        return set(dots) if len({attr(d, "part") for d in dots}) == len(dots) else set()

    groups: list[tuple[Op, ...]] = []
    for load in (op for op in block.ops if op in loads):
        alike = [g for g in groups if kinds[g[0]] == kinds[load]]
        near = [g for g in alike if any(fed(load) & fed(op) for op in g)]
        at = groups.index(near[0]) if near else len(groups)
        merged = (*(op for g in near for op in g), load)
        groups = [*groups[:at], merged, *(g for g in groups[at:] if g not in near)]
    return groups


def _blocks(block: Block) -> Iterator[Block]:
    yield block
    for op in block.ops:
        for inner in op.blocks:
            yield from _blocks(inner)


def _ring(loads: tuple[Op, ...], feeds: dict[Op, tuple[Op, ...]], parts: int, taken: set[str]) -> Ring:
    """A ring named after the tiles it carries, or their tensors, and the part that alone reads it.

    It has no depth yet.
    """
    readers = {attr(dot, "part") for load in loads for dot in feeds[load]}
    base = "_".join(op.result.hint or op.args[0].hint.lower() or "tile" for op in loads)
    if parts > 1:
        plain = (_whole_name(op, feeds[op]) for op in loads)
        base = "_".join(dict.fromkeys(plain)) + (suffix(readers.pop()) if len(readers) < parts else "")
    name = next(n for n in (base, *(f"{base}{i}" for i in range(2, len(taken) + 3))) if n not in taken)
    taken.add(name)
    payload = tuple(op.result.type for op in loads)
    return Ring(loads, make("aref.new", loc=loads[0].loc, hints=(name,), payload=payload))


def _whole_name(load: Op, dots: tuple[Op, ...]) -> str:
    """The name of the tile of which the load has a part."""
    name = load.result.hint or load.args[0].hint.lower() or "tile"
    return name.removesuffix(suffix(attr(dots[0], "part")))


class _Inserter:
    """Rewrites blocks: put after a ring's last load, get just before its first use, release after the last.

    A late get lets the group work on while the tile is still on its way. Views of
    the tile move behind the get: until then the tile has no place to view. Each part of a
    kernel whose rows are split gets and releases for itself.
    """

    def __init__(self, body: Block, rings: tuple[Ring, ...], threads: Mapping[Op, Op]) -> None:
        self.threads = threads
        self.ring_of = {load: ring for ring in rings for load in ring.loads}
        self.readers: dict[Ring, set[Op]] = {ring: set() for ring in rings}
        self.table: dict[tuple[Value, Part], Value] = {}
        users = uses(body)
        for load, ring in self.ring_of.items():
            _collect_readers(load.result, users, self.readers[ring])
        self.views = {op for found in self.readers.values() for op in found if op.name != "dot"}

    def block(self, block: Block) -> Block:
        rings = tuple(dict.fromkeys(self.ring_of[op] for op in block.ops if op in self.ring_of))
        users = {(ring, part): self.users(block, ring, part) for ring in rings for part in self.parts(ring)}
        views = {ring: [op for op in block.ops if op in self.readers[ring] & self.views] for ring in rings}
        moved = {view for found in views.values() for view in found}
        out: list[Op] = []
        for op in (o for o in block.ops if o not in moved):
            for ring, part in (side for side in users if users[side][0] is op):
                out += [self._get(ring, part), *(v for view in views[ring] for v in self._view(view, part))]
            out += self._copies(op) if op in self.views else [self._copy(op)]
            if op in self.ring_of and op is self.ring_of[op].loads[-1]:
                out.append(self._put(self.ring_of[op]))
            out += [_release(ring, part, op) for ring, part in users if users[ring, part][-1] is op]
        return Block(block.params, tuple(out))

    def parts(self, ring: Ring) -> list[Part]:
        """The parts that read a ring, in order."""
        found = {attr(op, "part") for op in self.readers[ring] - self.views}
        return sorted(found, key=lambda part: -1 if part is None else part)

    def users(self, block: Block, ring: Ring, part: Part) -> list[Op]:
        """Ops of the block that read a ring for a part, or that hold a reader in their blocks, in order."""
        readers = {op for op in self.readers[ring] - self.views if attr(op, "part") == part}
        return [
            op for op in block.ops if op in readers or any(o in readers for b in op.blocks for o in walk(b))
        ]

    def _copy(self, op: Op) -> Op:
        """The op on new values: those of its part."""
        op = self.threads.get(op, op)
        part = attr(op, "part") if op.name == "dot" else None
        args = tuple(self.table.get((a, part), a) for a in op.args)
        return op.with_(args=args, blocks=tuple(self.block(b) for b in op.blocks))

    def _copies(self, op: Op) -> list[Op]:
        """A view that stands deeper than the get, for each part that has a tile to view."""
        found = [part for value, part in self.table if value is op.args[0]]
        return [view for part in found for view in self._view(op, part)]

    def _view(self, op: Op, part: Part) -> list[Op]:
        """A view of a ring's tile, built again in shared memory for a part that reads it."""
        if (op.args[0], part) not in self.table:
            return []
        view = make(op.name, (self.table[op.args[0], part],), loc=op.loc, hints=(op.result.hint,), **op.attrs)
        self.table[op.result, part] = view.result
        return [view]

    def _put(self, ring: Ring) -> Op:
        tiles = (load.result for load in ring.loads)
        return make("aref.put", (ring.new.result, *tiles), loc=ring.loads[-1].loc, group=LOAD)

    def _get(self, ring: Ring, part: Part) -> Op:
        """The get; from here on the tiles are those of the slot."""
        tiles = tuple(load.result for load in ring.loads)
        hints = tuple(t.hint for t in tiles)
        get = make("aref.get", (ring.new.result,), loc=ring.loads[-1].loc, hints=hints, group=consumer(part))
        self.table.update({(t, part): r for t, r in zip(tiles, get.results, strict=True)})
        return get


def consumer(part: Part) -> str:
    """The compute group of a part."""
    return COMPUTE + suffix(part)


def suffix(part: Part) -> str:
    """What names of a part end with."""
    return "" if part is None else f"_{ascii_lowercase[part]}"


def _collect_readers(value: Value, users: dict[Value, list[Op]], found: set[Op]) -> None:
    for op in users.get(value, []):
        found.add(op)
        if op.name != "dot":
            _collect_readers(op.result, users, found)


def _release(ring: Ring, part: Part, op: Op) -> Op:
    return make("aref.release", (ring.new.result,), loc=op.loc, group=consumer(part))
