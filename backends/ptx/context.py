"""The emitter: what every emit rule of the PTX backend sees.

A rule is a function (Emitter, Op) that emits instructions and binds the op's results.
Tables of rules (name of the op -> rule) are joined by `compile`.

Registers of an element: float32 in f32, float64 in f64; float16, bfloat16 and the
8-bit floats as bits in b16; 32- and 64-bit integers in b32 and b64; 8- and 16-bit
integers in b32, always sign- or zero-extended; bool in pred. Registers of a `Fragment`
may be shared with other values and are never written, except those given by
`Emitter.take`, `Emitter.fresh` and `Emitter.reg`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from tilec.backends.artifact import Param, TensorMap
from tilec.backends.ptx.liveness import deaths, op_uses
from tilec.backends.ptx.order import Order
from tilec.backends.ptx.quotients import rough_quotients
from tilec.backends.ptx.strips import run_chain, units
from tilec.ir.core import Block, Kernel, Op, Value, walk
from tilec.ir.errors import InternalError, UnsupportedError
from tilec.ir.layout import LANE_BITS, Layout, scalar
from tilec.ir.loc import located
from tilec.ir.ptx.builder import Builder
from tilec.ir.ptx.builder import Value as Operand
from tilec.ir.ptx.module import Int, Not, Reg, Sym
from tilec.ir.types import DType, TensorType, TileType
from tilec.passes.allocate import SmemPlan

Rule = Callable[["Emitter", Op], None]
Guard = Reg | Not | None
SMEM = Sym("smem")
MAP_BYTES = 128  # of a tensor map


def register_type(dtype: DType) -> str:
    """The PTX type of a register that holds one element."""
    if dtype.kind == "bool":
        return "pred"
    if dtype.is_float:
        return {64: "f64", 32: "f32"}.get(dtype.bits, "b16")
    return "b64" if dtype.bits == 64 else "b32"


@dataclass(frozen=True)
class Group:
    """The warps that run the code being emitted. ``barrier`` is the id of its named barrier."""

    name: str = "main"
    first_warp: int = 0
    warps: int = 4
    barrier: int = 0

    @property
    def threads(self) -> int:
        return self.warps << LANE_BITS


@dataclass(frozen=True)
class Fragment:
    """A tile in registers: register i holds element ``layout.coords(i, lane, warp)``.

    A scalar (rank 0) has one register, with the same value in all threads. ``words``: the same
    elements several to a b32 register, where a loop carries small ones so (`words.py`); else ().
    """

    dtype: DType
    shape: tuple[int, ...]
    layout: Layout
    regs: tuple[Reg, ...]
    words: tuple[Reg, ...] = ()

    @property
    def reg(self) -> Reg:
        """The only register of a scalar."""
        (reg,) = self.regs
        return reg


@dataclass(frozen=True)
class Tensor:
    """A tensor argument: base address (b64), extents (b32, signed), strides (b64, in elements;
    the number 1 where it is known), and its index among the kernel's arguments.

    A section has tensor maps of its own: ``maps`` has their addresses, and ``shift`` for each axis
    what to add to coordinates (b32), so that nothing lies inside of an empty section.
    """

    type: TensorType
    pointer: Reg
    dims: tuple[Reg, ...]
    strides: tuple[Reg | Int, ...]
    arg: int
    maps: Mapping[TensorMap, Reg] = field(default_factory=dict, compare=False)
    shift: tuple[Reg | None, ...] = ()


class Emitter:
    """State of the emission of one kernel: builder, environment, current group and op.

    ``added``: the entry's parameters after those of the kernel's arguments.
    """

    def __init__(
        self, kernel: Kernel, builder: Builder, rules: Mapping[str, Rule], plan: SmemPlan, group: Group
    ) -> None:
        self.kernel, self.builder, self.rules, self.plan, self.group = kernel, builder, rules, plan, group
        self.order = Order()
        self.env: dict[Value, Any] = {}
        self.op = Op("entry")
        self.added: list[Param] = []
        self._maps: dict[TensorMap, Sym] = {}
        self._workspace: Sym | None = None
        self._deaths = deaths(kernel.body)
        self._holders: Counter[Reg] = Counter()
        self._moved: set[Value] = set()
        self.defs = {r: op for op in walk(kernel.body) for r in op.results}
        # For 8-bit floats that one conversion makes of an f32 register: their dtype and that register.
        self.shortened: dict[Reg, tuple[DType, Reg]] = {}
        self.constants = {
            r: op.attrs["value"]
            for r, op in self.defs.items()
            if op.name == "const" and not op.attrs["shape"]
        }
        self.rough = rough_quotients(kernel.body)
        self._caches: list[dict[Hashable, Any]] = [{}]

    # Instructions.

    def emit(self, opcode: str, *operands: Operand, pred: Guard = None) -> None:
        """Append an instruction; it carries the location of the current op."""
        self.builder.emit(opcode, *operands, pred=pred, loc=self.op.loc)

    def make(self, type_: str, opcode: str, *operands: Operand, pred: Guard = None) -> Reg:
        """Append an instruction whose destination is a new register of PTX type ``type_``."""
        dst = self.reg(type_)
        self.emit(opcode, dst, *operands, pred=pred)
        return dst

    def reg(self, type_: str) -> Reg:
        """A new register of a PTX type such as "f32", "b32" or "pred"."""
        return self.builder.reg(type_)

    def label(self, stem: str) -> Sym:
        """A new label; `place` puts it."""
        return self.builder.label(stem)

    def place(self, label: Sym) -> None:
        self.builder.place(label)

    def comment(self, text: str) -> None:
        """A comment on a line of its own."""
        self.builder.comment(text)

    def map_param(self, map_: TensorMap) -> Sym:
        """The entry's parameter for a tensor map; equal maps share one."""
        if map_ not in self._maps:
            self._maps[map_] = self.builder.param("b8", count=MAP_BYTES, align=64)
            self.added.append(Param("tensor_map", map_.arg, map=map_))
        return self._maps[map_]

    def workspace_param(self) -> Sym:
        """The entry's parameter for the address of its workspace."""
        if self._workspace is None:
            self._workspace = self.builder.param("u64")
            self.added.append(Param("workspace", -1))
        return self._workspace

    # Values.

    def fragment(self, value: Value) -> Fragment:
        """The registers of a tile or scalar."""
        found = self.env.get(value)
        if not isinstance(found, Fragment):
            raise InternalError("X130", f"{value.hint or 'a value'}: {value.type} is not in registers")
        return found

    def tensor(self, value: Value) -> Tensor:
        found = self.env[value]
        assert isinstance(found, Tensor)
        return found

    def layout(self, t: TileType) -> Layout:
        """The layout of a register tile in the current group."""
        if not t.shape:
            return scalar(self.group.warps)
        if not isinstance(t.layout, Layout):
            raise InternalError("X131", f"{t} has no layout", loc=self.op.loc)
        return t.layout

    def fresh(self, t: TileType) -> Fragment:
        """A fragment of new registers, for a tile of this type."""
        layout = self.layout(t)
        kind = register_type(t.dtype)
        return Fragment(t.dtype, t.shape, layout, tuple(self.reg(kind) for _ in range(layout.registers)))

    def bind(self, value: Value, bound: Any) -> None:
        """Give a value its registers (or, for tensors, rings and tiles in memory, any object)."""
        self.env[value] = bound
        if isinstance(bound, Fragment):
            self._holders.update(set(bound.regs))

    def bind_regs(self, value: Value, regs: Iterable[Reg]) -> None:
        """`bind` for a register tile, whose layout is that of its type."""
        t = value.type
        assert isinstance(t, TileType)
        self.bind(value, Fragment(t.dtype, t.shape, self.layout(t), tuple(regs)))

    def dies(self, value: Value) -> bool:
        """Whether the current op is the last use of ``value``."""
        return value in self._deaths.get(self.op, ())

    def take(self, value: Value) -> Fragment:
        """Registers with the content of ``value`` that the caller may overwrite.

        They are the value's own where the current op is its last use and nothing else
        holds them, so that accumulators stay in place; else copies.
        """
        source = self.fragment(value)
        if self.dies(value) and self._exclusive(value, source):
            self._moved.add(value)
            self._holders.subtract(source.regs)
            for r in source.regs:
                self.shortened.pop(r, None)
            return replace(source, words=())
        regs = tuple(self.copy(r, register_type(source.dtype)) for r in source.regs)
        return replace(source, regs=regs, words=())

    def idle(self, value: Value) -> bool:
        """Whether the registers that a value had hold nothing that is needed any more."""
        bound = self.env.get(value)
        return isinstance(bound, Fragment) and all(self._holders[r] == 0 for r in bound.regs)

    def _exclusive(self, value: Value, source: Fragment) -> bool:
        inner = replace(self.op, args=())
        return (
            self.op.args.count(value) == 1
            and value not in op_uses(inner)
            and len(set(source.regs)) == len(source.regs)
            and all(self._holders[r] == 1 for r in source.regs)
        )

    def copy(self, source: Reg, type_: str) -> Reg:
        """A new register with the same content."""
        return self.make(type_, f"mov.{type_}", source)

    # Control.

    def run_block(self, block: Block) -> tuple[Value, ...]:
        """Emit the ops of a block whose parameters are bound; gives what it yields.

        The caller reads the yielded values before it emits anything that ends their scope.
        """
        with self.scope():
            for unit in units(block):
                if len(unit) > 1:
                    self._run_chain(unit)
                else:
                    self.run(unit[0])
        return block.yielded

    def _run_chain(self, chain: tuple[Op, ...]) -> None:
        met = [self.order.before(op) for op in chain]
        if any(met):
            self.sync()
        run_chain(self, chain)
        for op in chain:
            for value in self._deaths.get(op, ()):
                self.release(value)

    def run(self, op: Op) -> None:
        """Emit one op by its rule."""
        outer, self.op = self.op, op
        rule = self.rules.get(op.name)
        with located(op.loc):
            if self.order.before(op):
                self.sync()
            if rule is None:
                raise UnsupportedError(
                    "U130",
                    f"{op.name} cannot be compiled to PTX here",
                    help="run this kernel with target='cpu'",
                )
            rule(self, op)
        for value in self._deaths.get(op, ()):
            self.release(value)
        self.op = outer

    def release(self, value: Value) -> None:
        """The value is dead: it holds its registers no more."""
        bound = self.env.get(value)
        if isinstance(bound, Fragment) and value not in self._moved:
            self._holders.subtract(set(bound.regs))

    def free(self, regs: Iterable[Reg]) -> None:
        """Forget who holds registers: all of them are dead."""
        for reg in regs:
            self._holders[reg] = 0

    @contextmanager
    def scope(self) -> Iterator[None]:
        """What `cached` makes inside is forgotten outside, where it may not have been computed."""
        self._caches.append({})
        try:
            yield
        finally:
            self._caches.pop()

    @contextmanager
    def in_group(self, group: Group) -> Iterator[None]:
        """Emit for another group of warps."""
        outer, self.group, self.order = (self.group, self.order), group, Order()
        with self.scope():
            yield
        self.group, self.order = outer

    def cached(self, key: Hashable, compute: Callable[[], Any]) -> Any:
        """``compute()``, once for the current group in the current or an outer scope."""
        full = (self.group, key)
        for cache in reversed(self._caches):
            if full in cache:
                return cache[full]
        made = self._caches[-1][full] = compute()
        self.hold(made if isinstance(made, tuple) else (made,))
        return made

    def hold(self, regs: Iterable[Any]) -> None:
        """Keep registers from ever being given to an emit rule by `take`."""
        self._holders.update({r for r in regs if isinstance(r, Reg)})

    # Threads.

    def thread(self) -> Reg:
        """The thread's number in its group."""
        return self.cached("thread", self._thread)  # type: ignore[no-any-return]

    def _thread(self) -> Reg:
        tid = self.make("b32", "mov.u32", Reg("%tid.x"))
        first = self.group.first_warp << LANE_BITS
        return self.make("b32", "sub.s32", tid, first) if first else tid

    def lane(self) -> Reg:
        return self.cached(  # type: ignore[no-any-return]
            "lane", lambda: self.make("b32", "and.b32", self.thread(), (1 << LANE_BITS) - 1)
        )

    def warp(self) -> Reg:
        """The warp's number in its group."""
        return self.cached(  # type: ignore[no-any-return]
            "warp", lambda: self.make("b32", "shr.u32", self.thread(), LANE_BITS)
        )

    def sync(self) -> None:
        """A barrier of all threads of the group; orders their accesses of memory."""
        self.order.barrier()
        if self.group.barrier == 0:
            self.emit("bar.sync", 0)
        else:
            self.emit("bar.sync", self.group.barrier, self.group.threads)

    def smem(self) -> Reg:
        """The address of the kernel's shared memory (b32), 1024-byte aligned."""
        return self.cached("smem", lambda: self.make("b32", "mov.u32", SMEM))  # type: ignore[no-any-return]

    def scratch(self) -> int:
        """Offset from `smem` of the group's scratch. Barriers around its use: see `exchange`."""
        return self.plan.scratch[self.group.name].offset


def no_op(e: Emitter, op: Op) -> None:
    """The rule of ops that emit nothing."""
