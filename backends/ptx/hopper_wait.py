"""The rule of `dot.wait`, and how a wait is kept where it stands.

ptxas (13.5) moves `wgmma.wait_group` up over arithmetic that needs no product: in attention
a wait behind the softmax ended up before it, so that nothing overlapped. It does not move
one out of a loop. So a wait that other work precedes is made a loop that never repeats:
its condition is that an extent of a tensor is negative, which ptxas cannot rule out.
"""

from __future__ import annotations

from tilec.backends.ptx.context import Emitter, Tensor
from tilec.ir.core import Block, Op, walk
from tilec.ir.ptx.module import Reg

# What a wait may follow without being moved: nothing to move over, or a loop that polls.
SHORT = ("dot", "dot.wait", "aref.get")


def late_waits(block: Block) -> set[Op]:
    """Waits that ordinary work stands before."""
    blocks = [block, *(b for op in walk(block) for b in op.blocks)]
    pairs = (pair for b in blocks for pair in zip(b.ops, b.ops[1:], strict=False))
    return {op for before, op in pairs if op.name == "dot.wait" and before.name not in SHORT}


def dot_wait(e: Emitter, op: Op, late: bool) -> None:
    """The values stay in their registers."""
    wait = "wgmma.wait_group.sync.aligned", op.attrs["pending"]
    never = never_true(e) if late else None
    if never is None:
        e.emit(*wait)
    else:
        again = e.label("pinned")
        e.place(again)
        e.emit(*wait)
        e.emit("bra.uni", again, pred=never)
    for arg, result in zip(op.args, op.results, strict=True):
        e.bind(result, e.take(arg))


def never_true(e: Emitter) -> Reg | None:
    """A predicate that is false, though ptxas cannot know; None without a tensor to ask."""
    bound = (e.env[p] for p in e.kernel.params)
    dims = [d for t in bound if isinstance(t, Tensor) for d in t.dims]
    if not dims:
        return None
    return e.cached("never", lambda: e.make("pred", "setp.lt.s32", dims[0], 0))  # type: ignore[no-any-return]
