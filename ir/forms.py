"""The three forms as lists of rules, and `verify`, which applies them.

A rule takes a `Program` and yields the faults it finds. Rules run in the order of
`FORMS`, and a rule may rely on those before it. Every fault is a bug of the
compiler (or of a hand-written text), hence InternalError with a code X2xx.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from tilec.ir import scheduled
from tilec.ir.core import Block, Kernel, Value
from tilec.ir.errors import InternalError, TilecError
from tilec.ir.loc import UNKNOWN
from tilec.ir.ops import OPS, attr, opdef, result_types
from tilec.ir.program import Fault, Program, Site
from tilec.ir.text import excerpt
from tilec.ir.types import ArefType, TensorType, TileType, Type

Rule = Callable[[Program], Iterable[Fault]]


def verify(kernel: Kernel) -> None:
    """Raise InternalError (X2xx, at the op, with lines of IR) unless the kernel fits its form."""
    if kernel.form not in FORMS:
        raise InternalError("X200", f"no form named {kernel.form!r}", help=f"one of {', '.join(FORMS)}")
    program = Program(kernel)
    for rule in FORMS[kernel.form]:
        for fault in rule(program):
            message = f"{fault.message}, in {kernel.form} kernel {kernel.name}"
            loc = fault.op.loc if fault.op and fault.op.loc is not UNKNOWN else None
            raise InternalError(fault.code, f"{message}\n{excerpt(kernel, fault.op)}", loc=loc)


# Rules of every form.


def known_ops(program: Program) -> Iterator[Fault]:
    """Only ops of the table that belong to the form."""
    for op in program.ops:
        if op.name not in OPS:
            yield Fault("X201", op, f"no op named {op.name!r} in the op table")
        elif program.kernel.form not in OPS[op.name].forms:
            yield Fault("X201", op, f"{op.name} does not belong to this form")


def known_attributes(program: Program) -> Iterator[Fault]:
    """Required attributes are there, others are known, blocks are as many as the table says."""
    for op in program.ops:
        row = opdef(op.name)
        missing = set(row.attrs) - set(op.attrs)
        unknown = set(op.attrs) - set(row.attrs) - set(row.optional or {})
        if missing or unknown:
            what = "lacks" if missing else "does not know"
            yield Fault("X202", op, f"{op.name} {what} {', '.join(sorted(missing or unknown))}")
        if row.blocks not in (-1, len(op.blocks)):
            yield Fault("X202", op, f"{op.name} has {len(op.blocks)} blocks, not {row.blocks}")


def parameters(program: Program) -> Iterator[Fault]:
    """Kernel parameters are tensors and scalars; the body takes none of its own."""
    for p in program.kernel.params:
        if not isinstance(p.type, TensorType) and getattr(p.type, "shape", None) != ():
            yield Fault("X207", None, f"parameter {p.hint} is a {p.type}, neither tensor nor scalar")
    if program.kernel.body.params:
        yield Fault("X207", None, "the body of a kernel has block parameters")


def terminators(program: Program) -> Iterator[Fault]:
    """Every block ends with `yield` and holds no other; the kernel's yields nothing."""
    for owner, block in program.blocks():
        at = [op for op in block.ops if op.name == "yield"]
        if len(at) != 1 or block.ops[-1] is not at[0]:
            guilty = at[0] if at else owner
            yield Fault("X205", guilty, f"a block with {len(at)} yields; one must be its last op")
        elif at[0].args and (owner is None or owner.name == "warp_groups"):
            yield Fault("X205", at[0], "this block must yield nothing")


def single_definition(program: Program) -> Iterator[Fault]:
    """Each value is defined once."""
    seen: set[Value] = set()
    for op, value in program.definitions():
        if value in seen:
            yield Fault("X203", op, f"a value ({value.hint or value.type}) is defined twice")
        seen.add(value)


def scope(program: Program) -> Iterator[Fault]:
    """Operands are defined earlier in the block or in a block around it."""
    yield from _scope(program, program.kernel.body, frozenset(program.kernel.params))


def _scope(program: Program, block: Block, outer: frozenset[Value]) -> Iterator[Fault]:
    seen = set(outer | set(block.params))
    for op in block.ops:
        for i, arg in enumerate(op.args):
            if arg not in seen:
                yield Fault("X204", op, f"operand {i} of {op.name} {program.whereabouts(arg)}")
        for inner in op.blocks:
            yield from _scope(program, inner, frozenset(seen))
        seen.update(op.results)


def types(program: Program) -> Iterator[Fault]:
    """Result types are what the type rule gives; layouts count only for convert_layout.

    Ops with blocks come last: their rules read the types of what is inside.
    """
    for op in sorted(program.ops, key=lambda op: bool(op.blocks)):
        args = tuple(a.type if op.blocks else bare(a.type) for a in op.args)
        try:
            expected = result_types(op.name, args, op.attrs, op.blocks, op.loc)
        except TilecError as error:
            yield Fault("X206", op, f"the type rule refuses {op.name}: {error.message}")
            continue
        found = tuple(r.type for r in op.results)
        if op.name != "convert_layout":
            expected, found = tuple(map(bare, expected)), tuple(map(bare, found))
        if expected != found:
            rule, here = (", ".join(map(str, t)) or "nothing" for t in (expected, found))
            yield Fault("X206", op, f"{op.name} gives {here}, its type rule {rule}")


def bare(t: Type) -> Type:
    """The type without layouts."""
    if isinstance(t, TileType):
        return t.with_(layout=None)
    if isinstance(t, ArefType):
        return replace(t, payload=tuple(p.with_(layout=None) for p in t.payload))
    return t


def ring_operands(program: Program) -> Iterator[Fault]:
    """A ring is only the first operand of put, get and release, so that its uses are plain to see."""
    for op in program.ops:
        for i, arg in enumerate(op.args):
            legal = i == 0 and op.name in ("aref.put", "aref.get", "aref.release")
            if isinstance(arg.type, ArefType) and not legal:
                yield Fault("X210", op, f"{op.name} takes a ring as operand {i}")


# Rules of TILE and AREF.


def sequential_dots(program: Program) -> Iterator[Fault]:
    """Asynchronous dots belong to SCHEDULED."""
    for op in program.ops:
        if op.attrs.get("asynchronous"):
            yield Fault("X208", op, f"an asynchronous {op.name}")


def one_of_each(program: Program) -> Iterator[Fault]:
    """A ring has one put, and one get and one release for each consumer."""
    for new, uses in program.rings():
        puts = uses.get("aref.put", [])
        if len(puts) != 1:
            yield Fault("X211", puts[1].op if puts else new, f"{len(puts)} aref.put of one ring, not 1")
        sides = _sides(uses) or {"": ([], [])}
        for gets, releases in sides.values():
            for name, found in (("aref.get", gets), ("aref.release", releases)):
                if len(found) != 1:
                    guilty = found[1].op if found else new
                    yield Fault("X211", guilty, f"{len(found)} {name} of one ring, not 1")


def equal_rates(program: Program) -> Iterator[Fault]:
    """Put, get and release of a ring stand in one block, in this order."""
    for _, uses in program.rings():
        put = uses["aref.put"][0]
        for (get,), (release,) in _sides(uses).values():
            for site in (get, release):
                if site.block is not put.block:
                    yield Fault("X213", site.op, f"{site.op.name} is not in the block of the ring's put")
            for first, second in ((put, get), (get, release)):
                if first.position > second.position:
                    yield Fault("X214", second.op, f"{second.op.name} comes before {first.op.name}")


def full_release(program: Program) -> Iterator[Fault]:
    """With one slot in use at a time a release keeps none."""
    for op in program.ops:
        if op.name == "aref.release" and op.attrs.get("keep", 0) != 0:
            yield Fault("X216", op, f"a release that keeps {op.attrs['keep']}")


def borrowed_uses(program: Program) -> Iterator[Fault]:
    """Borrowed tiles and views of them are used before the release, and do not leave the block."""
    for _, uses in program.rings():
        for (get,), (release,) in _sides(uses).values():
            yield from _borrowed(program, get, release)


def _borrowed(program: Program, get: Site, release: Site) -> Iterator[Fault]:
    views = set(get.op.results)
    for site in program.sites:
        if not views.intersection(site.op.args):
            continue
        if site.position > release.position:
            yield Fault("X215", site.op, f"{site.op.name} uses a borrowed tile after its release")
        if scheduled.escapes(site.op, views):
            yield Fault("X215", site.op, f"a borrowed tile leaves its block through {site.op.name}")
        if site.op.name in scheduled.VIEWS:
            views.update(site.op.results)


def _sides(uses: dict[str, list[Site]]) -> dict[str, tuple[list[Site], list[Site]]]:
    """For each consumer that a get or release names its gets and its releases."""
    found: dict[str, tuple[list[Site], list[Site]]] = {}
    for place, name in enumerate(("aref.get", "aref.release")):
        for site in uses.get(name, []):
            found.setdefault(attr(site.op, "group"), ([], []))[place].append(site)
    return found


COMMON: tuple[Rule, ...] = (
    known_ops, known_attributes, parameters, terminators, single_definition, scope, ring_operands, types,
)  # fmt: skip

FORMS: dict[str, tuple[Rule, ...]] = {
    "tile": (*COMMON, sequential_dots),
    "aref": (*COMMON, sequential_dots, one_of_each, equal_rates, full_release, borrowed_uses),
    "scheduled": (*COMMON, *scheduled.RULES),
}
