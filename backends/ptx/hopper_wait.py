"""The rule of `dot.wait`, and how a wait is kept where it stands.

ptxas (13.5) moves `wgmma.wait_group` up over arithmetic that needs no product: in attention
a wait behind the softmax ended up before it, so that nothing overlapped. It does not move
one out of a loop. So a wait that other work precedes is made a loop that never repeats:
its condition is that an extent of a tensor is a negative number, which ptxas cannot rule
out. The number is another one for each wait: ptxas knows what an earlier loop has tested.
"""

from __future__ import annotations

from collections.abc import Mapping

from tilec.backends.ptx.context import Emitter, Tensor
from tilec.ir.core import Block, Op, walk
from tilec.ir.ptx.module import Reg

# What a wait may follow without being moved: nothing to move over, or a loop that polls.
SHORT = ("dot", "dot.wait", "aref.get")


def late_waits(block: Block) -> dict[Op, int]:
    """Waits that ordinary work stands before, with their numbers."""
    blocks = [block, *(b for op in walk(block) for b in op.blocks)]
    pairs = (pair for b in blocks for pair in zip(b.ops, b.ops[1:], strict=False))
    late = [op for before, op in pairs if op.name == "dot.wait" and before.name not in SHORT]
    return {op: number for number, op in enumerate(late)}


def dot_wait(e: Emitter, op: Op, late: Mapping[Op, int]) -> None:
    """The values stay in their registers."""
    wait = "wgmma.wait_group.sync.aligned", op.attrs["pending"]
    extent = _extent(e) if op in late else None
    if extent is None:
        e.emit(*wait)
    else:
        never, again = e.make("pred", "setp.eq.s32", extent, -1 - late[op]), e.label("pinned")
        e.place(again)
        e.emit(*wait)
        e.emit("bra.uni", again, pred=never)
    for arg, result in zip(op.args, op.results, strict=True):
        e.bind(result, e.take(arg))


def _extent(e: Emitter) -> Reg | None:
    """An extent of the first tensor that has one."""
    bound = (e.env[p] for p in e.kernel.params)
    return next((d for t in bound if isinstance(t, Tensor) for d in t.dims), None)
