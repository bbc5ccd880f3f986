"""PTX as frozen data: modules, entries, statements and operands. No text, no checks."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from tilec.ir.loc import UNKNOWN, Loc


@dataclass(frozen=True)
class Reg:
    """A register by its full name: ``%r1``, ``%tid.x``, or a name declared without ``%``."""

    name: str


@dataclass(frozen=True)
class Sym:
    """A name that is no register: a label, variable, parameter, function or string label.
    ``offset``: bytes after a variable's address."""

    name: str
    offset: int = 0


@dataclass(frozen=True)
class Int:
    value: int


@dataclass(frozen=True)
class Float:
    """A float immediate by its IEEE bits: ``width`` 32 prints as 0f..., 64 as 0d..."""

    bits: int
    width: int = 32

    @property
    def value(self) -> float:
        code, raw = ("<f", "<I") if self.width == 32 else ("<d", "<Q")
        return float(struct.unpack(code, struct.pack(raw, self.bits))[0])


def f32(value: float) -> Float:
    """The f32 immediate nearest to ``value``."""
    return Float(struct.unpack("<I", struct.pack("<f", value))[0], 32)


def f64(value: float) -> Float:
    return Float(struct.unpack("<Q", struct.pack("<d", value))[0], 64)


@dataclass(frozen=True)
class Addr:
    """``[base + offset]``; with ``coords`` a tensor address ``[base, {coords}]``."""

    base: Reg | Sym | Int
    offset: int = 0
    coords: tuple[Operand, ...] | None = None


@dataclass(frozen=True)
class Vec:
    """``{a, b, ...}``: registers packed or unpacked, or a fragment."""

    items: tuple[Operand, ...]


@dataclass(frozen=True)
class Pair:
    """``d|p``: two destinations. A ``_`` register discards one."""

    first: Operand
    second: Operand


@dataclass(frozen=True)
class Not:
    """``!p``: a negated predicate operand."""

    reg: Reg | Sym


@dataclass(frozen=True)
class Args:
    """``(a, b, ...)``: the results or the arguments of a call."""

    items: tuple[Operand, ...]


Operand = Reg | Sym | Int | Float | Addr | Vec | Pair | Not | Args


@dataclass(frozen=True)
class Pred:
    """The guard ``@p`` or ``@!p`` of an instruction."""

    reg: Reg
    negated: bool = False


@dataclass(frozen=True)
class Instruction:
    """One instruction. ``opcode`` holds all modifiers: ``mad.lo.s32``.

    ``loc`` is the kernel source it came from, ``line`` its line in the PTX text;
    both say where, not what, and do not count in comparisons.
    """

    opcode: str
    operands: tuple[Operand, ...] = ()
    pred: Pred | None = None
    comment: str = field(default="", compare=False)
    loc: Loc = field(default=UNKNOWN, compare=False)
    line: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Label:
    name: str


@dataclass(frozen=True)
class RegDecl:
    """``.reg .type %name<count>`` declares name0 ... ; ``count`` 0 declares ``name`` itself."""

    type: str
    name: str
    count: int = 0


@dataclass(frozen=True)
class Var:
    """A variable of a state space: shared, global, const, local, or param (of a call).

    ``count`` is the number of elements; None is one scalar, -1 an unsized array
    (the launch gives its size, ``extern``). ``init`` holds the initial values.
    """

    space: str
    type: str
    name: str
    count: int | None = None
    align: int = 0
    extern: bool = False
    init: tuple[int | Float | str, ...] = ()


@dataclass(frozen=True)
class LocDirective:
    """``.loc file line col``; ``inlined`` keeps the text after it (call chain)."""

    file: int
    line: int
    col: int
    inlined: str = ""
    comment: str = field(default="", compare=False)


@dataclass(frozen=True)
class FileDirective:
    index: int
    name: str


@dataclass(frozen=True)
class BranchTargets:
    """``label: .branchtargets a, b;`` for brx.idx."""

    label: str
    targets: tuple[str, ...]


@dataclass(frozen=True)
class Prototype:
    """``label: .callprototype ...;`` or ``.calltargets``, for calls through a pointer; ``text`` is
    all from the dot."""

    label: str
    text: str


@dataclass(frozen=True)
class Directive:
    """Any other statement directive, e.g. ``.pragma "nounroll"``."""

    text: str


@dataclass(frozen=True)
class Comment:
    """A comment line. Not part of what a program is: parsing drops it."""

    text: str


@dataclass(frozen=True)
class Scope:
    """A nested ``{ ... }``: names declared inside are local to it."""

    body: tuple[Statement, ...]


Statement = (
    Instruction
    | Label
    | RegDecl
    | Var
    | LocDirective
    | BranchTargets
    | Prototype
    | Directive
    | Comment
    | Scope
)


@dataclass(frozen=True)
class EntryParam:
    """``.param`` of an entry: a scalar (``count`` None) or an array of bytes.

    ``ptr`` is the state space a pointer points to ("generic": not said), "" for no pointer;
    ``align`` is then the alignment of what it points to. ``space`` is "reg" for a parameter of a
    function that is a register.
    """

    type: str
    name: str
    count: int | None = None
    align: int = 0
    ptr: str = ""
    space: str = "param"


@dataclass(frozen=True)
class Function:
    """A ``.func``; without a ``body`` it is only declared. ``linkage`` are the words before it,
    ``directives`` the text after its parameters."""

    name: str
    results: tuple[EntryParam, ...]
    params: tuple[EntryParam, ...]
    body: tuple[Statement, ...] | None
    linkage: tuple[str, ...] = ()
    directives: str = ""


@dataclass(frozen=True)
class Entry:
    """A kernel. ``directives`` are the performance directives by name without the dot:
    ``("reqntid", (128, 1, 1))``."""

    name: str
    params: tuple[EntryParam, ...]
    directives: tuple[tuple[str, tuple[int, ...]], ...]
    body: tuple[Statement, ...]

    def directive(self, name: str) -> tuple[int, ...] | None:
        """The values of a directive, or None where it is not given."""
        return dict(self.directives).get(name)


@dataclass(frozen=True)
class Section:
    """A debug section, kept as text and never interpreted."""

    name: str
    text: str


Item = Entry | Function | Var | FileDirective | Section | Directive | Comment


@dataclass(frozen=True)
class Module:
    """A PTX file. ``version`` is (major, minor)."""

    version: tuple[int, int]
    target: str
    items: tuple[Item, ...]
    address_size: int = 64

    def entry(self, name: str) -> Entry | None:
        """The entry of that name, or None."""
        return next((i for i in self.items if isinstance(i, Entry) and i.name == name), None)

    def function(self, name: str) -> Function | None:
        """The function of that name, with its body if it has one, or None."""
        found = [i for i in self.items if isinstance(i, Function) and i.name == name]
        return next((f for f in found if f.body is not None), found[0] if found else None)


TYPE_BYTES = {
    "b8": 1, "u8": 1, "s8": 1, "b16": 2, "u16": 2, "s16": 2, "f16": 2, "bf16": 2,
    "b32": 4, "u32": 4, "s32": 4, "f32": 4, "f16x2": 4, "bf16x2": 4, "tf32": 4,
    "b64": 8, "u64": 8, "s64": 8, "f64": 8, "f32x2": 8, "b128": 16, "pred": 1,
}  # fmt: skip


def param_layout(params: tuple[EntryParam, ...]) -> tuple[dict[str, int], int]:
    """Offset of each parameter in the parameter space, and the space's size in bytes."""
    offset, where = 0, {}
    for param in params:
        size = TYPE_BYTES[param.type]
        align = max(param.align if not param.ptr else 0, size)
        offset = -(-offset // align) * align
        where[param.name] = offset
        offset += size * (param.count or 1)
    return where, offset
