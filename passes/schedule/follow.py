"""Make the loops of a warp group follow their programs.

`mark` notes stage and place on the ops of an AREF kernel, so that they survive when the
kernel is cloned for its groups; `follow` finds the marked loops of a group's block,
pipelines them, and takes the notes off again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass

from tilec.ir.core import Block, Kernel, Op, frozen
from tilec.passes.rewrite import where
from tilec.passes.schedule.modulo import LoopPlan, Segment, Turns, pipeline_loop
from tilec.passes.schedule.plan import Program

PLACE = "place"


@dataclass(frozen=True)
class Place:
    """Stage and place in the step of an op, and the turn of the chain that it is in, if any."""

    stage: int
    place: int
    chain: str = ""
    turn: int = 0
    of: int = 0


def places(program: Program, turns: Mapping[Op, tuple[int, int]], chain: str) -> dict[Op, Place]:
    """The places of a program's ops; ``turns`` has (turn, turns of a round) of those that take one."""
    found = {}
    for n, op in enumerate(program.order):
        turn = (chain, *turns[op]) if op in turns else ()
        found[op] = Place(program.stage[op], n, *turn)
    return found


def mark(kernel: Kernel, found: Mapping[Op, Place]) -> Kernel:
    """The kernel with the places as attributes of its ops."""
    return kernel.with_(body=_marked(kernel.body, found))


def _marked(block: Block, found: Mapping[Op, Place]) -> Block:
    ops = []
    for op in block.ops:
        inner = op.with_(blocks=tuple(_marked(b, found) for b in op.blocks)) if op.blocks else op
        place = found.get(op)
        ops.append(
            inner if place is None else inner.with_(attrs=frozen(**{**op.attrs, PLACE: astuple(place)}))
        )
    return Block(block.params, tuple(ops))


def follow(block: Block, in_flight: int) -> tuple[Block, tuple[str, ...]]:
    """The block with its marked loops pipelined, and why some are not.

    ``in_flight``: how many instances of a product that only adds to itself may run at once.
    """
    notes: list[str] = []
    return _followed(block, in_flight, notes), tuple(notes)


def _followed(block: Block, in_flight: int, notes: list[str]) -> Block:
    ops: list[Op] = []
    for op in block.ops:
        if op.name == "while" and any(PLACE in o.attrs for o in op.blocks[1].ops):
            notes.append(f"{where(op)}: the trips of a while loop are not known ahead")
        if op.blocks and not _is_marked(op):
            blocks = tuple(_followed(b, in_flight, notes) for b in op.blocks)
            ops.append(_bare(op).with_(blocks=blocks))
        else:
            ops += _pipelined(op, in_flight, notes) if op.blocks else [_bare(op)]
    return Block(block.params, tuple(ops))


def _is_marked(loop: Op) -> bool:
    return loop.name == "for" and any(PLACE in op.attrs for op in loop.blocks[0].ops)


def _pipelined(loop: Op, in_flight: int, notes: list[str]) -> list[Op]:
    """The loop as its marks say; as it is, with a note, where that cannot be."""
    found = {op: Place(*op.attrs[PLACE]) for op in loop.blocks[0].ops if PLACE in op.attrs}
    bare = {op: _bare(op) for op in loop.blocks[0].ops}
    body = Block(loop.blocks[0].params, tuple(bare.values()))
    plain = loop.with_(blocks=(body,))
    order = tuple(bare[op] for op in sorted(found, key=lambda op: found[op].place))
    stage = {bare[op]: place.stage for op, place in found.items()}
    turns = _turns({bare[op]: found[op] for op in sorted(found, key=lambda op: found[op].place)})
    chained = {op: in_flight for op in order if op.name == "dot" and _adds_to_itself(op, plain)}
    result = pipeline_loop(plain, LoopPlan(stage, order, chained, turns))
    if isinstance(result, str):
        notes.append(result)
        return [plain]
    return result


def _turns(found: Mapping[Op, Place]) -> Turns | None:
    """The turns of a step, each from its first op to its last, in the step's order."""
    taking = {op: place for op, place in found.items() if place.of}
    if not taking:
        return None
    segments: dict[int, Segment] = {}
    for op, place in taking.items():
        first = segments[place.turn].first if place.turn in segments else op
        segments[place.turn] = Segment(place.turn, first, op)
    any_place = next(iter(taking.values()))
    return Turns(any_place.chain, any_place.of, tuple(segments.values()))


def _bare(op: Op) -> Op:
    if PLACE not in op.attrs:
        return op
    return op.with_(attrs=frozen(**{k: v for k, v in op.attrs.items() if k != PLACE}))


def _adds_to_itself(dot: Op, loop: Op) -> bool:
    """Whether the product's accumulator is its own last result, which nothing else reads."""
    body = loop.blocks[0]
    waits = {op.args[0]: op.result for op in body.ops if op.name == "dot.wait" and op.args}
    result = waits.get(dot.result, dot.result)
    params = body.params[1:]
    if dot.args[2] not in params:
        return False
    place = params.index(dot.args[2])
    reads = [a for op in body.ops if op.name != "dot.wait" for a in op.args]
    alone = reads.count(params[place]) == 1 and reads.count(result) == 1
    return alone and body.yielded[place] is result
