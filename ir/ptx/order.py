"""Opcodes whose modifiers stand in another order than in the table, which ptxas accepts.

Types, state spaces and the words ``row`` and ``col`` keep their order among each other, since
it alone says which operand they are of.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from tilec.ir.ptx.forms import MACROS, Form

# A pattern as a sequence of texts and groups; a group has alternatives and may be left out.
Item = str | tuple[tuple["Items", ...], bool]
Items = tuple[Item, ...]
_FIXED = re.compile(
    r"(row|col|global|shared(::\w+)?|[usbf]\d+(x\d+)?|bf16(x2)?|tf32|pred|ue?\d*m\d+(x\d)?|e\dm\d(x\d)?|ue8m0x2)$"
)


def reordered(form: Form, opcode: str) -> str:
    """The opcode with its modifiers in the order of a row, or "" if the row has no such modifiers."""
    name, *parts = opcode.split(".")
    fixed = [p for p in parts if _FIXED.match(p)]
    for found in _walk(_items(form.pattern), "", (), (name, *parts)):
        if found[0] == name and [p for p in found if _FIXED.match(p)] == fixed:
            return ".".join(found)
    return ""


@cache
def _items(pattern: str) -> Items:
    text = re.sub(r"<(\w+)>", lambda m: MACROS[m[1]], pattern)
    return _sequence(text, 0)[0]


def _sequence(text: str, at: int) -> tuple[Items, int]:
    """Items up to a bar or the end of a group."""
    found: list[Item] = []
    while at < len(text) and text[at] not in "|)":
        if text[at] == "(":
            group, at = _group(text, at + 1)
            found.append(group)
        else:
            stop = re.compile(r"[(|)]").search(text, at)
            end = stop.start() if stop else len(text)
            found.append(text[at:end])
            at = end
    return tuple(found), at


def _group(text: str, at: int) -> tuple[Item, int]:
    alternatives = []
    while True:
        items, at = _sequence(text, at)
        alternatives.append(items)
        at += 1
        if text[at - 1] == ")":
            break
    optional = text[at : at + 1] == "?"
    return (tuple(alternatives), optional), at + optional


def _walk(items: Items, part: str, done: tuple[str, ...], left: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Every way to use up the parts that are ``left``; ``part`` is one that is not complete."""
    if not items:
        if left == (part,):
            yield (*done, part)
        return
    first, rest = items[0], items[1:]
    if isinstance(first, str):
        yield from _text(first, rest, part, done, left)
        return
    alternatives, optional = first
    for alternative in alternatives:
        yield from _walk(alternative + rest, part, done, left)
    if optional:
        yield from _walk(rest, part, done, left)


def _text(
    text: str, rest: Items, part: str, done: tuple[str, ...], left: tuple[str, ...]
) -> Iterator[tuple[str, ...]]:
    for character in text:
        if character != ".":
            part += character
            continue
        if part not in left:
            return
        i = left.index(part)
        done, left, part = (*done, part), left[:i] + left[i + 1 :], ""
    if any(p.startswith(part) for p in left):
        yield from _walk(rest, part, done, left)
