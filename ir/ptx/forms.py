"""What a row of the PTX instruction table is, and the notation its patterns use."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

MACROS = {
    "int": "(s16|s32|s64|u16|u32|u64)",
    "int32": "(s32|u32|s64|u64)",
    "bits": "(b16|b32|b64)",
    "half": "(f16|f16x2|bf16|bf16x2)",
    "any": "(b8|b16|b32|b64|u8|u16|u32|u64|s8|s16|s32|s64|f32|f64)",
    "shared": "(shared|shared::cta|shared::cluster)",
    "cta": "(shared|shared::cta)",
    "sem": "(.relaxed|.acquire|.release|.acq_rel)",
    "scope": "(.cta|.cluster|.gpu|.sys)",
    "hint": "(.L2::cache_hint)?",
    "cmp": "(eq|ne|lt|le|gt|ge|lo|ls|hi|hs|equ|neu|ltu|leu|gtu|geu|num|nan)",
}

_WORD = re.compile(r"\w+")
# In a pattern: a group, or a choice of characters, that is part of a word.
_PARTS = re.compile(r"\w[(?+*{]|\)\??\w|[\\\[]")


@dataclass(frozen=True)
class Form:
    """One row: a family of opcodes that share operands, needs and effects.

    ``pattern`` is a regular expression in which a dot is a dot and ``<name>`` is a
    macro. ``operands`` has one kind letter per operand, ``?`` after optional ones:

    r register, s register or immediate, p predicate (source, may be negated), d register
    or ``d|p`` pair, v register, immediate or vector, V vector, a address, t tensor
    address, i integer, l label, A arguments of a call.

    ``reads`` and ``writes`` name memory spaces, ``proxy`` the proxy of these accesses.
    ``aligned`` instructions need a converged warp. ``target`` and ``version`` are the
    least that have the form.
    """

    pattern: str
    operands: str
    unit: str
    target: str = "sm_50"
    version: tuple[int, int] = (7, 0)
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    proxy: str = ""
    aligned: bool = False

    @cached_property
    def bases(self) -> tuple[str, ...]:
        """What its opcodes have before their first dot."""
        first = self.pattern[1:].split(")")[0].split("|") if self.pattern[0] == "(" else [self.pattern]
        return tuple(re.split(r"[.<(?]", f, maxsplit=1)[0] for f in first)

    def matches(self, opcode: str) -> bool:
        """Whether an opcode, with its modifiers in the row's order, is of the row."""
        # A word that the row lacks rules it out: to compile all rows takes 50 ms of a process.
        words = self._words
        if words is not None and not words.issuperset(_WORD.findall(opcode)):
            return False
        return self._regex.fullmatch(opcode) is not None

    @cached_property
    def _words(self) -> frozenset[str] | None:
        """All words that an opcode of the row may have; None if the pattern has only parts of some."""
        return None if _PARTS.search(self._text) else frozenset(_WORD.findall(self._text))

    @cached_property
    def _text(self) -> str:
        return re.sub(r"<(\w+)>", lambda m: MACROS[m[1]], self.pattern)

    @cached_property
    def _regex(self) -> re.Pattern[str]:
        return re.compile(self._text.replace(".", r"\."))

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        return tuple(self.operands.split())
