"""Tiles that stay in shared memory: views of them, and the rules of ops that take one.

Each family of targets has views of its own, which know where the tile lies.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

from tilec.backends.ptx.context import Emitter, Rule
from tilec.backends.ptx.hopper_smem import SmemTile
from tilec.backends.ptx.hopper_stage import Place, read
from tilec.backends.ptx.hopper_views import Dims, view_step
from tilec.ir.core import Op
from tilec.ir.errors import UnsupportedError
from tilec.ir.ptx.module import Reg
from tilec.ir.types import TileType


@dataclass(frozen=True)
class SharedView(ABC):
    """A tile in shared memory: its layout, the dimension of it that each axis of the view is, its shape."""

    tile: SmemTile
    dims: Dims
    shape: tuple[int, ...]

    @abstractmethod
    def base(self, e: Emitter) -> Reg:
        """The address of the tile (b32)."""


def view_rule(plain: Rule) -> Rule:
    """The rule of reshape and permute: of shared memory a view, else what ``plain`` does."""

    def rule(e: Emitter, op: Op) -> None:
        view = e.env.get(op.args[0])
        if not isinstance(view, SharedView):
            plain(e, op)
            return
        dims, t = view_step(op, view.dims), op.result.type
        if dims is None or not isinstance(t, TileType):
            raise UnsupportedError(
                "U506",
                f"{op.name} of a tile in shared memory from {view.shape} to {t}",
                help="only axes of extent 1 may come and go there; load the tile in its final shape",
            )
        e.bind(op.result, replace(view, dims=dims, shape=t.shape))

    return rule


def convert_rule(plain: Rule) -> Rule:
    """The rule of convert_layout: from shared memory into registers, else what ``plain`` does."""

    def rule(e: Emitter, op: Op) -> None:
        view = e.env.get(op.args[0])
        if not isinstance(view, SharedView):
            plain(e, op)
            return
        assert isinstance(op.result.type, TileType)
        fragment = e.fresh(op.result.type)
        read(e, fragment, Place(view.tile, view.base(e), view.dims))
        e.bind(op.result, fragment)

    return rule
