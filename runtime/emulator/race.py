"""From two accesses that nothing orders to the code and the words of a report."""

from __future__ import annotations

from dataclasses import dataclass

from tilec.ir.ptx.module import Instruction
from tilec.runtime.emulator.report import where

# Kinds of actors.
WARP, COPY, MBARRIER, WGMMA, BULK_READ, BULK_WRITE = "warp", "cp.async", "mbarrier", "wgmma", "read", "write"
TENSOR, TENSOR_LOAD, TENSOR_STORE, FREE = "tcgen05", "tcgen05.ld", "tcgen05.st", "tcgen05.dealloc"


@dataclass(frozen=True)
class Access:
    """One side of a race: who, of which kind, whether it writes, and where in the program."""

    who: str
    kind: str
    writes: bool
    inst: Instruction


@dataclass(frozen=True)
class Race:
    """A rule: its code, and the edge that is missing."""

    code: str
    edge: str


_ORDINARY = "no barrier or fence orders the two"
_COPY = "no cp.async.wait_group and barrier covers the copy"
_LANDS = "no wait for the mbarrier phase of the copy covers it"
_STORE = "no cp.async.bulk.wait_group covers the store"

# By what an earlier actor did in shared memory: it wrote, or it read what is now written.
_READ_AFTER = {
    WARP: Race("E3", _ORDINARY),
    COPY: Race("E3", _COPY),
    MBARRIER: Race("E3", _LANDS),
}
_WRITE_AFTER = {
    WARP: Race("E4", _ORDINARY),
    COPY: Race("E4", _COPY),
    MBARRIER: Race("E4", _LANDS),
    WGMMA: Race("E4", "no wgmma.wait_group covers the product"),
    TENSOR: Race("E4", "no wait for the mbarrier of a tcgen05.commit covers the product"),
    BULK_READ: Race("E18", "no cp.async.bulk.wait_group.read covers the store"),
}
_GLOBAL = {
    WARP: Race("E27", _ORDINARY),
    COPY: Race("E27", _COPY),
    MBARRIER: Race("E27", _LANDS),
    BULK_WRITE: Race("E27", _STORE),
}
_TENSOR = {
    TENSOR: Race("E20", "no tcgen05.commit and wait for its mbarrier covers it"),
    TENSOR_LOAD: Race("E20", "no tcgen05.wait::ld and synchronisation covers the load"),
    TENSOR_STORE: Race("E20", "no tcgen05.wait::st and synchronisation covers the store"),
}
_FREED = Race("E19", "nothing orders this before the deallocation")
_UNFENCED = Race("E1", "no proxy fence stands between")
_UNFENCED_WRITE = Race("W2", "no proxy fence stands between")
_RELAXED = Race("W13", "only a relaxed arrival orders the two")


# By whether the later lane of a warp writes.
_LANES = "no bar.warp.sync orders the two"
LANES = {False: Race("E3", _LANES), True: Race("E4", _LANES)}


def rule_of(memory: str, earlier: Access, later: Access, kind: str) -> Race:
    """The rule that two accesses break. ``kind``: they are a "race", or ordered but lack a fence between
    the proxies ("proxy"), or only a "relaxed" arrival orders them."""
    if kind == "relaxed":
        return _RELAXED
    if kind == "proxy":
        return _UNFENCED_WRITE if later.writes else _UNFENCED
    if memory == "tensor":
        return _FREED if later.kind == FREE else _TENSOR[earlier.kind]
    if memory == "global":
        return _GLOBAL[earlier.kind]
    return (_WRITE_AFTER if later.writes else _READ_AFTER)[earlier.kind]


def text_of(rule: Race, memory: str, start: int, size: int, earlier: Access, later: Access) -> str:
    """The message: both accesses, the bytes, and the edge that is missing."""
    verb, before = "writes" if later.writes else "reads", "wrote" if earlier.writes else "read"
    verb = "deallocates" if later.kind == FREE else verb
    place = f"at {start:#x}..{start + size - 1:#x}" if memory != "tensor" else _cells(start)
    return (
        f"{later.who} {verb} {memory} memory {place}, which {earlier.who} {before} at "
        f"{where(earlier.inst)}; {rule.edge}"
    )


def _cells(record: int) -> str:
    """A record of tensor memory covers 16 lanes of one of the 512 columns."""
    half, column = divmod(record, 512)
    return f"(lanes {16 * half} to {16 * half + 15} of column {column})"
