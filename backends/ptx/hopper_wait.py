"""The rule of `dot.wait`, and how a wait is kept where it stands.

ptxas (13.5) moves `wgmma.wait_group` up over arithmetic that needs no product: in attention
a wait behind the softmax ended up before it, so that nothing overlapped. It does not move
one out of a loop. So a wait that other work precedes is made a loop that never repeats:
its condition is that an extent of a tensor is a negative number, which ptxas cannot rule
out. The number is another one for each wait: ptxas knows what an earlier loop has tested.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tilec.backends.ptx.context import Emitter, Tensor
from tilec.ir.core import Block, Op, walk
from tilec.ir.ptx.module import Reg

# What a wait may follow without being moved: nothing to move over, or a loop that polls.
SHORT = ("dot", "dot.wait", "aref.get")
BESIDE = ("turn.exit", "turn.enter", "aref.release")  # what is no arithmetic


def late_waits(block: Block) -> dict[Op, int]:
    """Waits that ordinary work stands before, with their numbers."""
    blocks = [block, *(b for op in walk(block) for b in op.blocks)]
    late = [op for b in blocks for op, last in _after(b) if op.name == "dot.wait" and last not in SHORT]
    return {op: number for number, op in enumerate(late)}


def _after(block: Block) -> Iterator[tuple[Op, str]]:
    """Each op with the name of what comes before it, leaving out `BESIDE`."""
    last = ""
    for op in block.ops:
        yield op, last
        last = last if op.name in BESIDE else op.name


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
