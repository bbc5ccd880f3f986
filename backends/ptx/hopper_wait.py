"""The rule of `dot.wait`, and how a wait is kept where it stands.

ptxas (13.5) moves `wgmma.wait_group` up over arithmetic that needs no product: in attention
a wait behind the softmax ended up before it, so that nothing overlapped. It does not move
one out of a loop. So a wait that other work precedes is made a loop that never repeats:
its condition is that an extent of a tensor is a negative number, which ptxas cannot rule
out. The number is another one for each wait: ptxas knows what an earlier loop has tested.

A wait for what an earlier one has waited for is left out: as a loop it would only keep
work on its two sides apart.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from tilec.backends.ptx.context import Emitter, Tensor
from tilec.ir.core import Block, Op, walk
from tilec.ir.ops import attr
from tilec.ir.ptx.module import Reg

# What a wait may follow without being moved: nothing to move over, or a loop that polls.
SHORT = ("dot", "dot.wait", "aref.get")
BESIDE = ("turn.exit", "turn.enter", "aref.release")  # what is no arithmetic
MANY = 16  # products that run at a time: so many or more


def needless_waits(body: Block) -> frozenset[Op]:
    """Waits where no more products can run than may go on running."""
    found: dict[Op, int] = {}
    _run(body, 0, found)
    return frozenset(op for op, running in found.items() if running <= attr(op, "pending"))


def _run(block: Block, running: int, found: dict[Op, int]) -> int:
    """The most products that may run after a block; ``found``: before each wait."""
    for op in block.ops:
        if op.name == "dot":
            running = min(running + 1, MANY) if attr(op, "asynchronous") else running
        elif op.name == "dot.wait":
            found[op] = max(found.get(op, 0), running)
            running = min(running, attr(op, "pending"))
        elif op.name in ("for", "while"):
            running = _loop(op, running, found)
        elif op.blocks:
            running = max(_run(b, running, found) for b in op.blocks)
    return running


def _loop(op: Op, running: int, found: dict[Op, int]) -> int:
    """Zero or more turns: until no more can run, which `MANY` bounds."""
    while True:
        after = running
        for block in op.blocks:
            after = _run(block, after, found)
        if after <= running:
            return running
        running = after


def late_waits(block: Block) -> dict[Op, int]:
    """Waits that ordinary work stands before, with their numbers."""
    needless = needless_waits(block)
    blocks = [block, *(b for op in walk(block) for b in op.blocks)]
    late = [
        op for b in blocks for op, last in _after(b, needless) if op.name == "dot.wait" and last not in SHORT
    ]
    return {op: number for number, op in enumerate(late)}


def _after(block: Block, needless: Collection[Op]) -> Iterator[tuple[Op, str]]:
    """Each op with the name of what comes before it, leaving out `BESIDE` and waits for nothing."""
    last = ""
    for op in block.ops:
        if op in needless:
            continue
        yield op, last
        last = last if op.name in BESIDE else op.name


def dot_wait(e: Emitter, op: Op, late: Mapping[Op, int], needless: Collection[Op]) -> None:
    """The values stay in their registers."""
    wait = "wgmma.wait_group.sync.aligned", attr(op, "pending")
    extent = _extent(e) if op in late else None
    if extent is None and op not in needless:
        e.emit(*wait)
    elif extent is not None:
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
