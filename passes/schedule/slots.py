"""How shared memory is divided among the rings of a kernel.

Each loop's plan says how many slots its rings need. Rings outside of these loops are
filled rarely and get one. What is left goes to the loops' rings, a slot more each: copies
do not all take the same time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tilec.ir.core import Kernel, Op, walk
from tilec.ir.errors import InfeasibleError, ResourceError
from tilec.ir.loc import Loc
from tilec.ir.types import ArefType, TileType
from tilec.passes.schedule.extract import ring_loops


@dataclass(frozen=True, eq=False)
class Ring:
    """A ring: bytes per slot, the loop that fills it (None: no inner loop), the author's depth."""

    name: str
    bytes: int
    loop: Op | None
    stages: int | None
    loc: Loc


def rings(kernel: Kernel, stages: int | None) -> tuple[Ring, ...]:
    """The rings of an AREF kernel in program order; a loop's own `stages=` wins over ``stages``."""
    home = {
        p.args[0]: loop for loop in ring_loops(kernel) for p in walk(loop.blocks[-1]) if p.name == "aref.put"
    }
    found = []
    for op in (o for o in walk(kernel.body) if o.name == "aref.new"):
        assert isinstance(op.result.type, ArefType)
        loop = home.get(op.result)
        own = None if loop is None else loop.attrs.get("stages", stages)
        wish = stages if own is None and loop is not None else own
        fixed = None if wish is None else max(wish, 1)
        found.append(Ring(op.result.hint, op.result.type.slot_bytes, loop, fixed, op.loc))
    return tuple(found)


def least(found: tuple[Ring, ...]) -> dict[str, int]:
    """The fewest slots: one, or what the author says."""
    return {r.name: r.stages or 1 for r in found}


def total(found: tuple[Ring, ...], depths: Mapping[str, int]) -> int:
    """Bytes of all slots."""
    return sum(r.bytes * depths[r.name] for r in found)


def staging_bytes(kernel: Kernel) -> int:
    """Shared memory that the largest stored tile passes through on its way out."""
    stored = (op.args[1].type for op in walk(kernel.body) if op.name == "store")
    return max((t.bytes for t in stored if isinstance(t, TileType) and len(t.shape) > 1), default=0)


def budget(kernel: Kernel, found: tuple[Ring, ...], smem: int, scratch: int) -> int:
    """Bytes for the rings; what scratch, and then stored tiles, want is left out if the rings can spare it.

    ResourceError R101 if the fewest slots do not fit; InfeasibleError I101 if the author's do not.
    """
    need = total(found, least(found))
    if need > smem:
        raise too_big(found, smem)
    wishes = (smem - scratch - staging_bytes(kernel), smem - scratch, smem)
    return next(n for n in wishes if need <= n)


def too_big(found: tuple[Ring, ...], smem: int) -> ResourceError | InfeasibleError:
    """The error of rings that do not fit, with the bytes of each."""
    depths = least(found)
    users = ", ".join(f"{r.name} {depths[r.name]} x {r.bytes}" for r in found)
    text = f"shared memory: {users} = {total(found, depths)} bytes, and one program has {smem}"
    largest = max(found, key=lambda r: r.bytes * depths[r.name])
    if any((r.stages or 1) > 1 for r in found):
        return InfeasibleError("I101", text, help="lower stages= or make the tiles smaller", loc=largest.loc)
    return ResourceError("R101", text, help="make the tiles smaller", loc=largest.loc)


def with_spares(found: tuple[Ring, ...], depths: Mapping[str, int], limit: int, most: int) -> dict[str, int]:
    """The depths with one slot more for each ring of a loop, where it fits and the author did not choose."""
    new = dict(depths)
    for r in found:
        deeper = {**new, r.name: new[r.name] + 1}
        if r.loop is not None and r.stages is None and new[r.name] < most and total(found, deeper) <= limit:
            new = deeper
    return new
