"""Operand text -> operands: a small recursive descent over one statement's tokens."""

from __future__ import annotations

import re

from tilec.ir.errors import TilecSyntaxError
from tilec.ir.ptx.module import Addr, Args, Float, Int, Not, Operand, Pair, Reg, Sym, Vec, f64

_TOKEN = re.compile(
    r"\s*(?:(?P<float>0[fF][0-9a-fA-F]{8}|0[dD][0-9a-fA-F]{16})"
    r"|(?P<real>\d+\.\d*(?:[eE][+-]?\d+)?)"
    r"|(?P<int>0[xX][0-9a-fA-F]+U?|0[bB][01]+U?|\d+U?)"
    r"|(?P<name>%?[A-Za-z_$%][\w$.]*)"
    r"|(?P<punct>[-+!|,{}\[\]()]))"
)


class _Tokens:
    def __init__(self, text: str) -> None:
        self.items: list[tuple[str, str]] = []
        position, end = 0, len(text.rstrip())
        while position < end:
            match = _TOKEN.match(text, position)
            if match is None:
                raise TilecSyntaxError("S401", f"cannot read operand {text[position:].strip()!r}")
            self.items.append((match.lastgroup or "", match.group(match.lastgroup or 0)))
            position = match.end()
        self.at = 0

    def peek(self) -> str:
        return self.items[self.at][1] if self.at < len(self.items) else ""

    def take(self) -> tuple[str, str]:
        if self.at == len(self.items):
            raise TilecSyntaxError("S401", "the operand list ends too early")
        self.at += 1
        return self.items[self.at - 1]

    def accept(self, text: str) -> bool:
        if self.peek() == text:
            self.at += 1
            return True
        return False

    def expect(self, text: str) -> None:
        if not self.accept(text):
            raise TilecSyntaxError("S401", f"expected {text!r}, found {self.peek()!r}")


def parse_operands(text: str) -> tuple[Operand, ...]:
    """The operands of one instruction, from the text after its opcode."""
    tokens = _Tokens(text)
    found: list[Operand] = []
    while tokens.peek():
        found.append(_operand(tokens))
        if tokens.peek():
            tokens.expect(",")
    return tuple(found)


def _operand(tokens: _Tokens) -> Operand:
    first = _single(tokens)
    return Pair(first, _single(tokens)) if tokens.accept("|") else first


def _single(tokens: _Tokens) -> Operand:
    if tokens.accept("["):
        return _address(tokens)
    if tokens.accept("{"):
        return Vec(_list(tokens, "}"))
    if tokens.accept("("):
        return Args(()) if tokens.accept(")") else Args(_list(tokens, ")"))
    if tokens.accept("!"):
        return Not(_register(tokens))
    value = _scalar(tokens)
    return Sym(value.name, _offset(tokens)) if isinstance(value, Sym) else value


def _list(tokens: _Tokens, end: str) -> tuple[Operand, ...]:
    """Scalars only: vectors do not nest."""
    items = [_scalar(tokens)]
    while tokens.accept(","):
        items.append(_scalar(tokens))
    tokens.expect(end)
    return tuple(items)


def _register(tokens: _Tokens) -> Reg | Sym:
    kind, text = tokens.take()
    if kind != "name":
        raise TilecSyntaxError("S401", f"a register was expected, not {text!r}")
    return _name(text)


def _offset(tokens: _Tokens) -> int:
    """``+ 4 - 8 ...``: integers that follow an address."""
    offset = 0
    while tokens.peek() in ("+", "-"):
        sign = -1 if tokens.take()[1] == "-" else 1
        sign *= -1 if tokens.accept("-") else 1
        kind, text = tokens.take()
        if kind != "int":
            raise TilecSyntaxError("S401", f"the offset {text!r} of an address is no integer")
        offset += sign * _integer(text)
    return offset


def _integer(text: str) -> int:
    """C's notation: 0x..., 0b..., 0... octal, decimal."""
    digits = text.rstrip("U")
    if digits[0] == "0" and digits.isdigit() and digits.strip("0"):
        if not set(digits) <= set("01234567"):
            raise TilecSyntaxError("S401", f"{text!r} is no octal number")
        return int(digits, 8)
    return int(digits, 0)


def _name(text: str) -> Reg | Sym:
    return Reg(text) if text[0] == "%" or text == "_" else Sym(text)


def _scalar(tokens: _Tokens) -> Reg | Sym | Int | Float:
    sign = -1 if tokens.accept("-") else 1
    kind, text = tokens.take()
    if kind == "int":
        return Int(sign * _integer(text))
    if kind == "float":
        width = 32 if text[1] in "fF" else 64
        return Float(int(text[2:], 16) ^ ((sign < 0) << (width - 1)), width)
    if kind == "real":
        return f64(sign * float(text))
    if kind == "name" and sign > 0:
        return _name(text)
    raise TilecSyntaxError("S401", f"unexpected {text!r} in an operand")


def _address(tokens: _Tokens) -> Addr:
    base = _scalar(tokens)
    if isinstance(base, Float):
        raise TilecSyntaxError("S401", "a float is no address")
    offset = _offset(tokens)
    coords = None
    if tokens.accept(","):
        tokens.expect("{")
        coords = _list(tokens, "}")
    tokens.expect("]")
    return Addr(base, offset, coords)
