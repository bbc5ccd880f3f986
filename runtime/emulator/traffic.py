"""Bank conflicts of shared memory, and sectors of global memory: counts for each instruction.

Shared memory has 32 banks of 4 bytes and serves a warp in one pass for up to 4 bytes a thread, two
half warps for 8, four quarters for 16; a pass takes as many wavefronts as the busiest bank has
different words. Global memory moves sectors of 32 bytes. Source: NVIDIA's CUDA programming guide,
sections on shared and global memory; the split of wide accesses was measured by others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tilec.ir.loc import Loc
from tilec.ir.ptx.module import Instruction
from tilec.runtime.emulator.numbers import Array

_BANKS, _WORD, _SECTOR = 32, 4, 32


@dataclass
class Traffic:
    """What one instruction moved: ``requests`` of warps took ``transactions`` (wavefronts of shared
    memory, sectors of global memory), of which ``ideal`` would do for the same bytes."""

    memory: str
    line: int
    loc: Loc
    requests: int = 0
    transactions: int = 0
    ideal: int = 0

    @property
    def excess(self) -> int:
        """Bank conflicts, or sectors that a better order of addresses would save."""
        return self.transactions - self.ideal


class Counter:
    """Counts by instruction. Equal patterns of addresses are counted once and remembered."""

    def __init__(self) -> None:
        self.found: dict[tuple[int, str], Traffic] = {}
        self.patterns: dict[tuple[str, int, int, bytes, bytes], tuple[int, int, int]] = {}

    def count(self, memory: str, address: Array, size: int, threads: Array, inst: Instruction) -> None:
        """An access of ``size`` bytes by each thread, at any offset from the start of a bank row."""
        phase = int(address[0]) % (_WORD if memory == "shared" else _SECTOR)
        key = (memory, size, phase, (address - address[0]).tobytes(), threads.tobytes())
        cost = self.patterns.get(key)
        if cost is None:
            cost = self.patterns[key] = _MEMORIES[memory](address.astype(np.int64), size, threads)
        self.add(memory, inst.line, inst.loc, *cost)

    def add(self, memory: str, line: int, loc: Loc, requests: int, transactions: int, ideal: int) -> None:
        """Add to the counts of an instruction."""
        found = self.found.get((line, memory))
        if found is None:
            found = self.found[line, memory] = Traffic(memory, line, loc)
        found.requests += requests
        found.transactions += transactions
        found.ideal += ideal

    def result(self) -> tuple[Traffic, ...]:
        return tuple(self.found[key] for key in sorted(self.found))


def _bank_conflicts(address: Array, size: int, threads: Array) -> tuple[int, int, int]:
    """(requests, wavefronts, least wavefronts)."""
    passes = max(size // _WORD, 1)
    group = (threads >> 5) * passes + (threads & 31) * passes // 32
    word = (address // _WORD)[:, None] + np.arange(passes)
    pairs = np.unique(np.stack([np.repeat(group, passes), word.ravel()], axis=1), axis=0)
    _, index = np.unique(pairs[:, 0], return_inverse=True)
    table = np.bincount(index * _BANKS + pairs[:, 1] % _BANKS, minlength=(index.max() + 1) * _BANKS)
    by_bank = table.reshape(-1, _BANKS)
    least = -(-by_bank.sum(axis=1) // _BANKS)
    return len(np.unique(threads >> 5)), int(by_bank.max(axis=1).sum()), int(least.sum())


def _sectors(address: Array, size: int, threads: Array) -> tuple[int, int, int]:
    """(requests, sectors, least sectors)."""
    requests = sectors = least = 0
    for warp in np.unique(threads >> 5):
        mine = np.unique(address[threads >> 5 == warp])
        touched = mine[:, None] + np.arange(0, size, min(size, _SECTOR))
        requests += 1
        sectors += len(np.unique(touched // _SECTOR))
        least += -(-len(mine) * size // _SECTOR)
    return requests, sectors, least


_MEMORIES: dict[str, Callable[[Array, int, Array], tuple[int, int, int]]] = {
    "shared": _bank_conflicts,
    "global": _sectors,
}
