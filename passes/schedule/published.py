"""Published plans as data: which orders and groups they prescribe beyond the problem itself.

Op ids are those of the loops in `loops/`; a plan applies to problems that have all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

FA3 = "Shah et al., FlashAttention-3 (arXiv 2407.08608), and its code in Dao-AILab/flash-attention/hopper"
FA4 = "FlashAttention-4, Dao-AILab/flash-attention/flash_attn/cute/flash_fwd_sm100.py"
TWILL = "Twill (arXiv 2512.18134): the next product is hoisted in one of the two groups"
OURS = "for comparison"


class Order(NamedTuple):
    """``dst`` of iteration i issues after ``src`` of iteration i - delta; with ``done`` after its result."""

    src: str
    dst: str
    delta: int = 0
    done: bool = False


@dataclass(frozen=True)
class Rule:
    """A way to schedule: ``orders`` hold, each of ``teams`` is one group, ``keep`` are the only ops.

    ``needs``: ops that a problem must have. ``copies``: intervals that do the work of one
    iteration of the problem, where ``keep`` leaves ops out.
    """

    name: str
    what: str
    source: str
    needs: tuple[str, ...]
    orders: tuple[Order, ...] = ()
    teams: tuple[tuple[str, ...], ...] = ()
    keep: str = ""
    copies: int = 1


def _each(*names: str, tiles: str = "ab") -> tuple[str, ...]:
    return tuple(name + x for x in tiles for name in names)


def _hoisted() -> Iterator[Order]:
    """A step of a group: QK of the next iteration, rescale, PV of this one, then the next softmax.

    P is overwritten when PV is done. A group's turn on the tensor cores ends with PV.
    """
    for x in "ab":
        yield Order("QK" + x, "RESC" + x, -1)
        yield Order("PV" + x, "MASK" + x, 1)
        yield Order("PV" + x, "MAX" + x, 1)
        yield Order("PV" + x, "CVT" + x, 1, done=True)
    yield Order("PVa", "QKb", 1)
    yield Order("PVb", "QKa", 2)


def _apart(across: bool) -> tuple[Order, ...]:
    """QK of the next iteration waits for PV of this one, of its own sub-tile or of both."""
    return tuple(Order("PV" + x, "QK" + y, 1, done=True) for x in "ab" for y in "ab" if across or x == y)


_ALTERNATE = (Order("QKa", "PVb", -1), Order("PVb", "QKb", 1), Order("QKb", "PVa"), Order("PVa", "QKa", 1))
_FA3 = _each("QK", "MAX", "CVT", "RESC", "PV")
_FA4 = _each("QK", "LDS", "STP", "LDO", "STO", "PV")
_SOFTMAX = ("LDS", "MAX", "ALPHA", "FMA", "EXP", "POLY", "CVT", "STP", "SUM")
_FIVE = (
    _each("QK", "PV"),
    _each(*_SOFTMAX, tiles="a"),
    _each(*_SOFTMAX, tiles="b"),
    _each("LDO", "MUL", "STO"),
)

RULES = (
    Rule("FA3", "both groups hoist QK, and take turns on the tensor cores", FA3, _FA3, tuple(_hoisted())),
    Rule("FA3 (one group hoists)", "tensor cores: QKa, PVb, QKb, PVa", TWILL, _FA3, _ALTERNATE),
    Rule("ping-pong only", "no overlap inside a sub-tile", FA3, _FA3, _apart(across=False)),
    Rule("no overlap", "QK waits for PV of the iteration before", OURS, _FA3, _apart(across=True)),
    Rule("one sub-tile", "one sub-tile after the other", OURS, _FA3, keep="a", copies=2),
    Rule("FA4", "products, softmax a, softmax b, rescale of O: a group each", FA4, _FA4, teams=_FIVE),
    Rule("no overlap", "QK waits for PV of the iteration before", OURS, _FA4, _apart(across=True)),
    Rule("one sub-tile", "one sub-tile after the other", OURS, _FA4, keep="a", copies=2),
)
