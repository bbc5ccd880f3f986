"""SCHEDULED kernel -> PTX text with its parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from tilec.backends.artifact import Artifact, Param
from tilec.backends.ptx import arith, casts, control, dot, maths, memory, reduce, shapes
from tilec.backends.ptx.ampere import Ampere
from tilec.backends.ptx.context import Emitter, Fragment, Group, Rule, Tensor, register_type
from tilec.backends.ptx.exchange import memory_type
from tilec.backends.ptx.frugal import frugal
from tilec.backends.ptx.hopper import Hopper
from tilec.backends.ptx.hopper_cluster import extents
from tilec.backends.ptx.pressure import is_heavy
from tilec.ir.core import Kernel, Op, Value
from tilec.ir.errors import UnsupportedError
from tilec.ir.layout import scalar
from tilec.ir.ptx.builder import Builder
from tilec.ir.ptx.isa import LaterTargetError
from tilec.ir.ptx.module import Addr, Int, Reg
from tilec.ir.types import TensorType, TileType
from tilec.passes.allocate import SmemPlan
from tilec.passes.layouts import assign_layouts
from tilec.passes.targets import TARGETS
from tilec.passes.warp_products import are_shared

RULES: Mapping[str, Rule] = {
    **arith.RULES, **maths.RULES, **casts.RULES, **shapes.RULES, **reduce.RULES, **memory.RULES,
    **control.RULES, **dot.RULES,
}  # fmt: skip
THREADS_LIMIT = 1024


def compile_kernel(kernel: Kernel, target: str = "sm_90a") -> Artifact:
    """Compile a SCHEDULED kernel. Equal input gives equal bytes.

    The entry's parameters are, for each argument of the kernel in order, the value of a
    scalar, or of a tensor its pointer, all extents and all strides; tensor maps and the
    address of the workspace follow.
    """
    row, placed = TARGETS[target], assign_layouts(kernel)
    by_warps = row.products == "mma.sync" or are_shared(kernel)
    machine = Ampere(frugal(placed), RULES, row.smem) if by_warps else Hopper(placed, RULES)
    try:
        return emit_kernel(machine, target)
    except LaterTargetError as error:
        help = "compile for a later target, or compute in another dtype"
        raise UnsupportedError("U134", error.message, help=help, loc=error.loc) from None


class Machine(Protocol):
    """What a family of targets adds: rules for a kernel with layouts, its plan of shared memory, the
    bytes of global memory that a program works in, and the programs of a cluster."""

    kernel: Kernel
    plan: SmemPlan
    workspace: int
    cluster: tuple[int, int, int]

    @property
    def rules(self) -> Mapping[str, Rule]: ...
    def begin(self, e: Emitter) -> None: ...
    def end(self, e: Emitter) -> None: ...


def emit_kernel(machine: Machine, target: str) -> Artifact:
    """Emit a kernel with layouts by its rules, within its shared memory plan."""
    kernel, plan = machine.kernel, machine.plan
    group = Group("main", 0, _warps(kernel), 0)
    builder = Builder(kernel.name, target)
    e = Emitter(kernel, builder, machine.rules, plan, group)
    params = [p for i, value in enumerate(kernel.params) for p in _bind_param(e, value, i)]
    builder.directive("reqntid", group.threads, 1, 1)
    if not _groups(kernel) and is_heavy(kernel):
        builder.directive("minnctapersm", 1)
    if plan.total:
        builder.shared("smem", -1, align=1024)
    machine.begin(e)
    e.run_block(kernel.body)
    machine.end(e)
    e.emit("ret")
    params += e.added
    return Artifact(
        target, builder.text(), kernel.name, tuple(params), group.threads, plan.total, machine.workspace,
        machine.cluster, extents(kernel, "pairs"),
    )  # fmt: skip


def _groups(kernel: Kernel) -> list[Op]:
    return [op for op in kernel.body.ops if op.name == "warp_groups"]


def _warps(kernel: Kernel) -> int:
    """All warps of a CTA."""
    groups = _groups(kernel)
    warps = sum(groups[0].attrs["warps"]) if groups else int(kernel.attrs.get("num_warps", 4))
    if warps * 32 > THREADS_LIMIT:
        raise UnsupportedError(
            "U133", f"{kernel.name} has {warps} warps, a CTA has at most 32", help="pass a smaller num_warps"
        )
    return warps


def _bind_param(e: Emitter, value: Value, arg: int) -> list[Param]:
    t = value.type
    if isinstance(t, TileType):
        reg = _scalar(e, t)
        e.bind(value, Fragment(t.dtype, (), scalar(e.group.warps), (reg,)))
        return [Param("scalar", arg, dtype=t.dtype)]
    assert isinstance(t, TensorType)
    pointer = _global(e, _read(e, "b64", "u64"))
    dims = tuple(_read(e, "b32", "s32") for _ in range(t.rank))
    strides = tuple(_read(e, "b64", "s64") for _ in range(t.rank))
    known = tuple(Int(1) if axis == t.contiguous else s for axis, s in enumerate(strides))
    e.hold((pointer, *dims, *strides))
    e.bind(value, Tensor(t, pointer, dims, known, arg))
    axes = range(t.rank)
    return [
        Param("pointer", arg),
        *(Param("dim", arg, a) for a in axes),
        *(Param("stride", arg, a) for a in axes),
    ]


def _read(e: Emitter, kind: str, type_: str) -> Reg:
    return e.make(kind, f"ld.param.{type_}", Addr(e.builder.param(type_)))


def _global(e: Emitter, pointer: Reg) -> Reg:
    return e.make("b64", "cvta.to.global.u64", pointer)


def _scalar(e: Emitter, t: TileType) -> Reg:
    kind = memory_type(t.dtype)
    if t.dtype.kind == "bool":
        return e.make("pred", "setp.ne.s32", _read(e, "b32", kind), Int(0))
    return _read(e, register_type(t.dtype), kind)
