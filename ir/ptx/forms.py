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

    @cached_property
    def regex(self) -> re.Pattern[str]:
        text = re.sub(r"<(\w+)>", lambda m: MACROS[m[1]], self.pattern)
        return re.compile(text.replace(".", r"\."))

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(self.operands.split())
