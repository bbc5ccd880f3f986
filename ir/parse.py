"""The parser of the textual form; `tilec.ir.text` describes it.

It builds what the text says and does not run type rules: `forms.verify` judges.
"""

from __future__ import annotations

import json
import linecache
import re
from collections.abc import Callable
from types import MappingProxyType
from typing import Any, TypeVar

from tilec.ir.core import Block, Kernel, Op, Value, frozen
from tilec.ir.errors import TilecError, TilecSyntaxError
from tilec.ir.loc import UNKNOWN, Loc
from tilec.ir.ops import OPS
from tilec.ir.types import DTYPES, ArefType, DType, TensorType, TileType, Type

T = TypeVar("T")
MAX_NESTING = 100
WORDS = {"None": None, "True": True, "False": False}
STRING = r'"(?:[^"\\\n]|\\.)*"'
NUMBER = r"-?(?:inf\b|nan\b|\d+(?:\.\d+)?(?:e[+-]?\d+)?)"


def parse_kernel(text: str, file: str = "<ir>") -> Kernel:
    """The kernel that a text describes; ``file`` names the text in errors.

    Raises TilecSyntaxError (S2xx) at the guilty line and column.
    """
    return _Parser(text, file).kernel()


class _Scanner:
    """A position in a text."""

    def __init__(self, text: str, file: str) -> None:
        self.text, self.file, self.pos, self.nesting = text, file, 0, 0

    def error(self, code: str, message: str, at: int | None = None, help: str = "") -> TilecSyntaxError:
        at = min(self.pos if at is None else at, len(self.text))
        start = self.text.rfind("\n", 0, at) + 1
        line = self.text.count("\n", 0, at) + 1
        loc = Loc(self.file, line, at - start, at - start + 1)
        if not linecache.getline(self.file, line):
            source = self.text[start:].partition("\n")[0]
            message += f"\n   | {source}\n   | {' ' * (at - start)}^"
        return TilecSyntaxError(code, message, help=help, loc=loc)

    def expected(self, what: str) -> TilecSyntaxError:
        self.skip()
        found = re.match(r"[%@^]?[\w.]+|.|", self.text[self.pos :], re.S)
        shown = repr(found[0]) if found and found[0] else "the end of the text"
        return self.error("S201", f"expected {what}, found {shown}")

    def skip(self) -> None:
        found = re.compile(r"(?:\s+|//[^\n]*)*").match(self.text, self.pos)
        self.pos = found.end() if found else self.pos

    def peek(self, literal: str) -> bool:
        self.skip()
        return self.text.startswith(literal, self.pos)

    def take(self, literal: str) -> bool:
        found = self.peek(literal)
        self.pos += len(literal) if found else 0
        return found

    def expect(self, literal: str) -> None:
        if not self.take(literal):
            raise self.expected(f"'{literal}'")

    def maybe(self, pattern: str) -> str | None:
        self.skip()
        found = re.compile(pattern).match(self.text, self.pos)
        if found is None:
            return None
        self.pos = found.end()
        return found[0]

    def match(self, pattern: str, what: str) -> str:
        found = self.maybe(pattern)
        if found is None:
            raise self.expected(what)
        return found

    def comma_list(self, item: Callable[[], T], close: str) -> tuple[T, ...]:
        """Items with commas up to and including ``close``; a last comma is allowed."""
        items: list[T] = []
        while not self.take(close):
            items.append(item())
            if not self.take(","):
                self.expect(close)
                break
        return tuple(items)

    def nested(self, parse: Callable[[], T]) -> T:
        if self.nesting >= MAX_NESTING:
            raise self.error("S202", f"more than {MAX_NESTING} levels of nesting")
        self.nesting += 1
        result = parse()
        self.nesting -= 1
        return result

    def balanced(self) -> str:
        """Text up to the ">" that closes the current "<", brackets counted."""
        start, level = self.pos, 0
        for found in re.compile(r"->|[<>()\[\]{}\n]").finditer(self.text, start):
            token = found[0]
            if token == "\n":
                break
            if token == ">" and level == 0:
                self.pos = found.start()
                return self.text[start : self.pos].strip()
            level += (token in "<([{") - (token in ">)]}") if token != "->" else 0
        raise self.error("S201", "this '<' is never closed", at=start - 1)


class _Values(_Scanner):
    """Types and attributes."""

    def string(self) -> str:
        at = self.pos
        try:
            return str(json.loads(self.match(STRING, "a string")))
        except ValueError:
            raise self.error("S203", "a string with a bad escape", at=at) from None

    def integer(self) -> int:
        at = self.pos
        try:
            return int(self.match(r"\d+", "a number"))
        except ValueError:
            raise self.error("S203", "a number with too many digits", at=at) from None

    def attrs(self) -> dict[str, Any]:
        """{name=value, ...}; the brace is taken already."""
        found: dict[str, Any] = {}

        def item() -> None:
            name = self.match(r"[A-Za-z_]\w*", "an attribute name or '}'")
            if name in found:
                raise self.error("S204", f"attribute {name!r} is given twice")
            self.expect("=")
            found[name] = self.nested(self.value)

        self.comma_list(item, "}")
        return found

    def value(self) -> Any:
        if self.peek('"'):
            return self.string()
        if self.take("("):
            return self.comma_list(lambda: self.nested(self.value), ")")
        if self.take("{"):
            return MappingProxyType(self.attrs())
        at = self.pos
        number = self.maybe(NUMBER)
        if number is not None:
            return self.number(number, at)
        word = self.match(r"[A-Za-z_]\w*", "a value")
        if word in WORDS:
            return WORDS[word]
        if self.peek("<"):
            self.pos = at
            return self.layout() if word == "layout" else self.type()
        return self.dtype(word, at)

    def number(self, text: str, at: int) -> int | float:
        try:
            return int(text) if re.fullmatch(r"-?\d+", text) else float(text)
        except ValueError:
            raise self.error("S203", "a number with too many digits", at=at) from None

    def dtype(self, name: str, at: int) -> DType:
        if name not in DTYPES:
            raise self.error("S205", f"no dtype named {name!r}", at, help=f"one of {', '.join(DTYPES)}")
        return DTYPES[name]

    def layout(self) -> Any:
        self.expect("layout")
        self.expect("<")
        found = self.parse_layout(self.balanced())
        self.expect(">")
        return found

    def parse_layout(self, text: str) -> Any:
        # Imported here: layouts are only needed for texts of late stages.
        from tilec.ir import layout

        try:
            return layout.Layout.parse(text)
        except TilecError:
            raise self.error("S206", f"{text!r} is no layout") from None

    def type(self) -> Type:
        parsers: dict[str, Callable[[], Type]] = {
            "tile": self.tile, "tensor": self.tensor, "aref": self.aref,
        }  # fmt: skip
        at = self.pos
        word = self.match(r"[a-z]+", "a type")
        if word not in parsers:
            raise self.error("S205", f"no type named {word!r}", at, help="tile<>, tensor<> or aref<>")
        self.expect("<")
        found = self.nested(parsers[word])
        self.expect(">")
        return found

    def tile(self) -> TileType:
        dims = self.match(r"(?:\d{1,18}x)*", "extents")
        at = self.pos
        dtype = self.dtype(self.match(r"[a-z]\w*", "a dtype"), at)
        shape = tuple(int(d) for d in dims.split("x")[:-1])
        space, layout = "reg", None
        if self.take(","):
            space = self.maybe(r"(?:reg|smem|tmem)\b(?=\s*[,>])") or space
            if not self.peek(">") and (space == "reg" or self.take(",")):
                layout = self.parse_layout(self.balanced())
        return TileType(dtype, shape, space, layout)  # type: ignore[arg-type]

    def tensor(self) -> TensorType:
        at = self.pos
        dtype = self.dtype(self.match(r"[a-z]\w*", "a dtype"), at)
        self.expect(",")
        rank = self.integer()
        self.expect(",")
        self.expect("contiguous=")
        contiguous = None if self.take("?") else self.integer()
        flags = []
        while self.take(","):
            flags.append(self.match("unaligned|divisible", "unaligned or divisible"))
        return TensorType(dtype, rank, contiguous, "unaligned" not in flags, "divisible" in flags)

    def aref(self) -> ArefType:
        payload: list[TileType] = []
        depth = None
        while not self.peek(">"):
            if self.take("depth="):
                depth = self.integer()
                break
            self.expect("tile")
            self.expect("<")
            payload.append(self.tile())
            self.expect(">")
            if not self.take(","):
                break
        return ArefType(tuple(payload), depth)


class _Parser(_Values):
    """Ops, blocks and kernels."""

    def __init__(self, text: str, file: str) -> None:
        super().__init__(text, file)
        self.values: dict[str, Value] = {}

    def kernel(self) -> Kernel:
        self.expect("tilec.kernel")
        self.expect("@")
        name = self.string() if self.peek('"') else self.match(r"\w+", "the kernel's name")
        self.expect("form=")
        form = self.match(r"[a-z]+", "a form")
        attrs = self.attrs() if self.take("{") else {}
        self.expect("(")
        params = self.comma_list(self.param, ")")
        self.expect("{")
        body = Block((), self.ops())
        self.expect("}")
        self.skip()
        if self.pos < len(self.text):
            raise self.expected("the end of the text")
        return Kernel(name, params, body, form, frozen(**attrs))

    def name(self) -> str:
        return self.match(r"%\w+", "a value such as %x")[1:]

    def param(self) -> Value:
        at, name = self.pos, self.name()
        self.expect(":")
        return self.define(name, self.type(), at)

    def define(self, name: str, type: Type, at: int) -> Value:
        if name in self.values:
            raise self.error("S207", f"%{name} is defined twice", at)
        self.values[name] = Value(type, "" if re.fullmatch("[0-9]+", name) else name)
        return self.values[name]

    def use(self) -> Value:
        self.skip()
        at, name = self.pos, self.name()
        if name not in self.values:
            raise self.error("S208", f"no value named %{name} before this line", at)
        return self.values[name]

    def ops(self) -> tuple[Op, ...]:
        found: list[Op] = []
        while not (self.peek("}") or self.peek("^")):
            found.append(self.op())
        return tuple(found)

    def op(self) -> Op:
        at = self.pos
        names = self.separated(self.name) if self.peek("%") else ()
        if names:
            self.expect("=")
        self.skip()
        start = self.pos
        name = self.match(r"[A-Za-z_][\w.]*", "an op")
        if name not in OPS:
            raise self.error("S209", f"no op named {name!r}", start, help="the ops are listed in docs/ir.md")
        args = self.separated(self.use) if self.peek("%") else ()
        attrs = self.attrs() if self.opens_attrs() else {}
        types = self.separated(self.type) if self.take(":") else ()
        if len(types) != len(names):
            raise self.error("S210", f"{name}: {len(names)} results but {len(types)} types", start)
        blocks = self.nested(self.blocks) if self.take("{") else ()
        loc = self.loc() if self.peek("loc(") else UNKNOWN
        results = tuple(self.define(n, t, at) for n, t in zip(names, types, strict=True))
        return Op(name, args, frozen(**attrs), results, blocks, loc)

    def opens_attrs(self) -> bool:
        """Takes a "{" that is not the start of blocks, which begin with "^"."""
        return self.maybe(r"\{(?!\s*\^)") is not None

    def separated(self, item: Callable[[], T]) -> tuple[T, ...]:
        items = [item()]
        while self.take(","):
            items.append(item())
        return tuple(items)

    def blocks(self) -> tuple[Block, ...]:
        found: list[Block] = []
        while not self.take("}"):
            self.expect("^")
            self.expect("(")
            params = self.comma_list(self.param, ")")
            self.expect(":")
            found.append(Block(params, self.ops()))
        return tuple(found)

    def loc(self) -> Loc:
        self.expect("loc(")
        file = self.string()
        self.expect(":")
        line = self.integer()
        self.expect(":")
        col = self.integer() - 1
        end = self.integer() if self.take("-") else 0
        function = self.string() if self.take(",") else ""
        caller = self.nested(self.loc) if self.take(",") else None
        self.expect(")")
        return Loc(file, line, col, end, function, caller)
