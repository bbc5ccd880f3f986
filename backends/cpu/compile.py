"""TILE kernel to LLVM IR: the entry, its arguments, and the loop over program instances."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from llvmlite import ir

from tilec.backends.artifact import CpuArg, CpuProgram
from tilec.backends.cpu import cells, control, dot, loops, memory, pointwise, reduce  # noqa: F401  (they fill tables)
from tilec.backends.cpu.lanes import I1, I64, PTR, register, storage
from tilec.backends.cpu.target import CpuTarget, host
from tilec.backends.cpu.tiles import Code
from tilec.backends.cpu.turn import turn_products
from tilec.backends.cpu.views import Tensor
from tilec.ir.core import Kernel, Value
from tilec.ir.errors import UnsupportedError
from tilec.ir.ops import written_tensors
from tilec.ir.types import TensorType, TileType

ENTRY = "tilec_run"
GRID_SLOTS = 3


def compile_kernel(kernel: Kernel, target: CpuTarget | None = None) -> CpuProgram:
    """A TILE kernel as LLVM IR for a CPU (default: this one). Deterministic.

    Raises UnsupportedError for another form.
    """
    if kernel.form != "tile":
        raise UnsupportedError("U202", f"the CPU backend takes the TILE form, not {kernel.form!r}",
                               help="compile the kernel before make_async")  # fmt: skip
    target = target or host()
    kernel = turn_products(kernel, target)
    module = ir.Module(name=kernel.name)
    module.triple = ""
    instance, workspace_bytes = _instance(module, kernel, target)
    _entry(module, instance)
    args = _describe(kernel)
    return CpuProgram(str(module), ENTRY, args, workspace_bytes, target.vector_bytes)


def _describe(kernel: Kernel) -> tuple[CpuArg, ...]:
    written = written_tensors(kernel.body)
    out = []
    for i, param in enumerate(kernel.params):
        name, t = param.hint or f"argument {i}", param.type
        if isinstance(t, TensorType):
            out.append(CpuArg(name, t.dtype, t.rank, t.contiguous, param in written))
        elif isinstance(t, TileType) and t.shape == ():
            out.append(CpuArg(name, t.dtype))
        else:
            raise UnsupportedError("U203", f"argument {name} of type {t}", help="pass tensors and scalars")
    return tuple(out)


def _instance(module: Any, kernel: Kernel, target: CpuTarget) -> tuple[Any, int]:
    """The function (arguments, workspace, index) that runs one program instance."""
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [PTR, PTR, I64]), "instance")
    function.linkage = "internal"
    arguments, workspace, index = function.args
    workspace.add_attribute("noalias")
    b = ir.IRBuilder(function.append_basic_block("entry"))
    code = Code(b, target, workspace, kernel.body)
    code.grid = tuple(_slot(b, arguments, i, I64) for i in range(GRID_SLOTS))
    x, rest = b.urem(index, code.grid[0]), b.udiv(index, code.grid[0])
    code.program = (x, b.urem(rest, code.grid[1]), b.udiv(rest, code.grid[1]))
    _parameters(code, kernel, arguments, written_tensors(kernel.body))
    with code.frame(kernel.body):
        control.run(code, kernel.body)
    b.ret_void()
    return function, code.memory.peak


def _parameters(code: Code, kernel: Kernel, arguments: Any, written: Container[Value]) -> None:
    at = GRID_SLOTS
    for param in kernel.params:
        code.env[param] = _parameter(code, param, arguments, at, param not in written)
        at += 1 + 2 * param.type.rank if isinstance(param.type, TensorType) else 1


def _parameter(code: Code, param: Value, arguments: Any, at: int, fixed: bool) -> Any:
    b, t = code.b, param.type
    if isinstance(t, TileType):
        found = _slot(b, arguments, at, storage(t.dtype))
        return b.trunc(found, I1) if register(t.dtype) == I1 else found
    assert isinstance(t, TensorType)
    extents = tuple(_slot(b, arguments, at + 1 + d, I64) for d in range(t.rank))
    strides = tuple(
        1 if d == t.contiguous else _slot(b, arguments, at + 1 + t.rank + d, I64) for d in range(t.rank)
    )
    return Tensor(_slot(b, arguments, at, PTR), extents, strides, t, fixed)


def _slot(b: Any, arguments: Any, index: int, type_: Any) -> Any:
    pointer = b.gep(arguments, [I64(index)], source_etype=I64, inbounds=True)
    return b.load(pointer, typ=type_)


def _entry(module: Any, instance: Any) -> None:
    """(arguments, counter, end, chunk, workspace): take chunks of instances until the end."""
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [PTR, PTR, I64, I64, PTR]), ENTRY)
    arguments, counter, end, chunk, workspace = function.args
    start, head, body, done = (function.append_basic_block(n) for n in ("start", "head", "body", "done"))
    b = ir.IRBuilder(start)
    b.branch(head)
    b.position_at_end(head)
    first = b.atomic_rmw("add", counter, chunk, "monotonic")
    b.cbranch(b.icmp_signed("<", first, end), body, done)
    b.position_at_end(body)
    after = b.add(first, chunk)
    last = b.select(b.icmp_signed("<", after, end), after, end)
    loops.each(b, first, last, 1, lambda index: b.call(instance, [arguments, workspace, index]))
    b.branch(head)
    b.position_at_end(done)
    b.ret_void()
