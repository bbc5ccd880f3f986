"""Machine code as data: instructions with their stall cycles, loops, and counts by kind.

A stall is what the assembler makes the issuing warp wait after an instruction; it stands in bits
105 to 108 of the 128 (Volta and later). Loops are found by branches backward.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_LABEL = re.compile(r"^\s*(\.L_\w+|\$[\w$]+):")
_CODE = re.compile(r"^\s*/\*([0-9a-f]{4,})\*/\s+(.*?);\s*/\* 0x([0-9a-f]{16}) \*/")
_UPPER = re.compile(r"^\s*/\* 0x([0-9a-f]{16}) \*/")
_TARGET = re.compile(r"`\((\.L_\w+)\)")
_STALL = 105 - 64
MMA = ("HGMMA", "QGMMA", "IGMMA", "HMMA", "QMMA", "IMMA", "UTCHMMA")
# Kinds that reports count, by the first parts of opcodes.
KINDS = {
    "MMA": MMA, "TMA": ("UTMALDG", "UTMASTG", "UBLKCP"), "LDGSTS": ("LDGSTS",), "LDSM": ("LDSM", "STSM"),
    "LDS": ("LDS",), "STS": ("STS",), "LDG": ("LDG",), "MUFU": ("MUFU",), "FP32": ("FFMA", "FADD", "FMUL"),
    "MNMX": ("FMNMX", "FMNMX3"), "SHFL": ("SHFL",), "BAR": ("BAR", "SYNCS"), "LOCAL": ("LDL", "STL"),
    "INT": ("IADD3", "IMAD", "LEA", "ISETP", "LOP3", "SHF", "VIADD", "VIADDMNMX"),
}  # fmt: skip


@dataclass(frozen=True)
class Code:
    """One instruction: its first word without modifiers, all its text, its stall, and where it jumps."""

    opcode: str
    text: str
    stall: int
    target: str | None = None


@dataclass(frozen=True)
class Listing:
    """The instructions of a kernel, and the index that each label stands at."""

    code: tuple[Code, ...]
    labels: dict[str, int]

    def loops(self) -> Iterator[tuple[int, int]]:
        """First and last instruction of each loop: a branch back, and where it leads."""
        for i, c in enumerate(self.code):
            at = self.labels.get(c.target or "", i + 1)
            if at <= i:
                yield at, i

    def product_loops(self) -> list[tuple[Code, ...]]:
        """The innermost loops that multiply on the tensor cores, as they stand in the code.

        Waits that stand behind the code, after an exit, jump far back: they are no loops around it.
        """
        found = [at for at in self.loops() if self._multiplies(*at)]
        inner = [(a, b) for a, b in found if not any(a < c and d <= b for c, d in found)]
        return [self.code[a : b + 1] for a, b in sorted(inner)]

    def product_loop(self) -> tuple[Code, ...]:
        """The first of the loops with most products; empty if there is none."""
        return max(self.product_loops(), key=_products, default=())

    def main_loop(self) -> tuple[Code, ...]:
        """Of the loops with most products the slowest among the short ones: those of at most a tenth more
        instructions than the shortest, which handle no edge."""
        loops = self.product_loops()
        most = max(map(_products, loops), default=0)
        loops = [c for c in loops if _products(c) == most]
        least = min(map(len, loops), default=0)
        return max((c for c in loops if 10 * len(c) <= 11 * least), key=_stalls, default=())

    def body(self) -> tuple[Code, ...]:
        """The kernel without the functions behind it that it calls for rare operands, and without padding."""
        end = min((at for name, at in self.labels.items() if name.startswith("$")), default=len(self.code))
        while end and (self.code[end - 1].opcode == "NOP" or self._stays(end - 1)):
            end -= 1
        return self.code[:end]

    def _stays(self, i: int) -> bool:
        code = self.code[i]
        return code.opcode == "BRA" and self.labels.get(code.target or "") == i

    def _multiplies(self, first: int, last: int) -> bool:
        opcodes = {c.opcode for c in self.code[first : last + 1]}
        return "EXIT" not in opcodes and not opcodes.isdisjoint(MMA)


def _products(code: Sequence[Code]) -> int:
    return sum(c.opcode in MMA for c in code)


def _stalls(code: Sequence[Code]) -> int:
    return sum(c.stall for c in code)


def parse(text: str) -> Listing:
    """What `nvdisasm -c -hex` prints."""
    code: list[Code] = []
    labels: dict[str, int] = {}
    pending: tuple[str, str] | None = None
    for line in text.splitlines():
        if found := _LABEL.match(line):
            labels[found[1]] = len(code)
        elif found := _CODE.match(line):
            pending = found[2].strip(), found[3]
        elif pending and (found := _UPPER.match(line)):
            code.append(_instruction(pending[0], int(found[1], 16)))
            pending = None
    return Listing(tuple(code), labels)


def _instruction(text: str, upper: int) -> Code:
    words = [w for w in text.split() if not w.startswith(("@", "{"))]
    target = _TARGET.search(text)
    return Code(words[0].split(".")[0], text, upper >> _STALL & 15, target[1] if target else None)


def counts(code: Sequence[Code]) -> dict[str, int]:
    """Instructions, stall cycles, and instructions of each kind that occurs."""
    names = {name: kind for kind, opcodes in KINDS.items() for name in opcodes}
    found = Counter(names[c.opcode] for c in code if c.opcode in names)
    by_kind = {kind: found[kind] for kind in KINDS if found[kind]}
    return {"instructions": len(code), "stalls": _stalls(code), **by_kind}
