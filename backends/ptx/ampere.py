"""What targets with cp.async and mma.sync add to the rules of the PTX backend.

`Ampere` decides everything before emission (tiles of rings, shared memory, waits and barriers)
and gives the table of rules; rules for ops that also have a plain form fall back to it.
"""

from __future__ import annotations

from collections.abc import Mapping

from tilec.backends.ptx.ampere_copy import Copies, Request, pending, request, run
from tilec.backends.ptx.ampere_dot import Products, mn_and_k, product_shape, staging
from tilec.backends.ptx.ampere_mma import Matrices, Shared
from tilec.backends.ptx.ampere_ring import Ring, Slot, get, open_ring
from tilec.backends.ptx.ampere_store import room, staged, store
from tilec.backends.ptx.ampere_sync import plan_sync
from tilec.backends.ptx.context import Emitter, Rule, no_op
from tilec.backends.ptx.hopper_smem import SmemTile, smem_tile, tile_bytes
from tilec.backends.ptx.hopper_views import uses_of
from tilec.backends.ptx.pressure import is_tight
from tilec.backends.ptx.shared_views import convert_rule, view_rule
from tilec.ir.core import Block, Kernel, Op, Value, definitions, walk
from tilec.ir.ops import attr
from tilec.ir.types import TensorType, TileType
from tilec.passes.allocate import allocate


class Ampere:
    """Plans and rules for one SCHEDULED kernel of one group with layouts.

    ``smem``: bytes of shared memory that the target gives one program.
    """

    def __init__(self, kernel: Kernel, rules: Mapping[str, Rule], smem: int) -> None:
        self.kernel, self.base = kernel, rules
        self.defs = definitions(kernel.body)
        self.requests = self._requests(kernel.body, None)
        self.puts = {op.args[0]: op for op in reversed(list(walk(kernel.body))) if op.name == "aref.put"}
        self.tiles = {ring: self._tiles(put) for ring, put in self.puts.items()}
        self.sync, self.tight = plan_sync(kernel), is_tight(kernel)
        self.plan = allocate(kernel, staging(kernel), tile_bytes=tile_bytes, limit=smem)
        self.products = Products(kernel, rules["dot"])
        self.rings: dict[Value, Ring] = {}
        self.workspace, self.cluster = 0, (1, 1, 1)

    @property
    def rules(self) -> Mapping[str, Rule]:
        """All rules: the plain ones, with ours in front."""
        own: dict[str, Rule] = {
            "aref.new": no_op,
            "aref.put": self._put,
            "aref.get": lambda e, op: get(e, op, self.rings[op.args[0]], self.sync),
            "aref.release": no_op,
            "dot": self.products.rule,
            "for": self._for,
            "load": self._load,
            "store": self._store,
            "section": self._section,
            "reshape": view_rule(self.base["reshape"]),
            "permute": view_rule(self.base["permute"]),
            "convert_layout": convert_rule(self.base["convert_layout"]),
        }
        return {**self.base, **own}

    def begin(self, e: Emitter) -> None:
        """At the entry: the sides of rings, and what loops would compute again and again."""
        if self.plan.total:
            e.smem()
        for ring, tiles in self.tiles.items():
            self.rings[ring] = open_ring(e, tiles, self.plan.rings[ring])
            self._prepare_copies(e, self.puts[ring])
        for op in walk(self.kernel.body):
            if op.name == "aref.get":
                self._prepare_readers(e, op)

    def end(self, e: Emitter) -> None:
        """Nothing runs on at the end: all copies were waited for."""

    def _prepare_readers(self, e: Emitter, get: Op) -> None:
        """The addresses of ldmatrix in the tiles of a slot; but for one register each, where few are left."""
        for result, tile in zip(get.results, self.tiles[get.args[0]], strict=True):
            for use in uses_of(result, self.kernel.body):
                if use.op.name == "dot" and attr(use.op, "warps"):
                    size, dims = product_shape(use.op), mn_and_k(use.dims, use.index)
                    shared = Shared(tile, Slot(0, None), dims)
                    matrices = Matrices(e, shared, use.index == 0, size)
                    if not self.tight:
                        matrices.prepare(size, 32 // tile.es)

    def _requests(self, block: Block, loop: Block | None) -> dict[Op, Request]:
        """What the loads that feed rings ask for."""
        found = {}
        for op in block.ops:
            if op.name == "aref.put":
                loads = [self.defs[value] for value in op.args[1:]]
                found.update({load: request(load, self.defs, loop) for load in loads})
            for inner in op.blocks:
                found.update(self._requests(inner, inner if op.name == "for" else None))
        return found

    def _tiles(self, put: Op) -> tuple[SmemTile, ...]:
        """The layouts of a slot's tiles: contiguous where the tensors are."""
        found = []
        for value in put.args[1:]:
            tensor, tile = self.defs[value].args[0].type, value.type
            assert isinstance(tensor, TensorType) and isinstance(tile, TileType)
            assert tensor.contiguous is not None
            found.append(smem_tile(tile, tensor.contiguous))
        return tuple(found)

    def _copies(self, e: Emitter, put: Op) -> list[Copies]:
        return [
            Copies(e, e.tensor(tensor), tile, tile.shape)
            for tensor, tile in zip(self._tensors(put), self.tiles[put.args[0]], strict=True)
        ]

    def _tensors(self, put: Op) -> list[Value]:
        """The tensors that the tiles of a put come from."""
        return [self.defs[value].args[0] for value in put.args[1:]]

    def _prepare_copies(self, e: Emitter, put: Op) -> None:
        """What the loop around would compute again, as soon as all tensors of a put are there; nothing
        where few registers are left."""
        if not self.tight and all(tensor in e.env for tensor in self._tensors(put)):
            for copies in self._copies(e, put):
                copies.prepare()

    # Rules.

    def _put(self, e: Emitter, op: Op) -> None:
        """Copy the tiles into the next slot, as one commit group."""
        if op in self.sync.barriers:
            e.sync()
        ring = self.rings[op.args[0]]
        loads = [e.env[value] for value in op.args[1:]]
        run(e, list(zip(self._copies(e, op), loads, ring.slots(e, ring.put), strict=True)))
        e.emit("cp.async.commit_group")

    def _for(self, e: Emitter, op: Op) -> None:
        """Before the loop: the parts of addresses and of tests that it does not change."""
        for put in (o for o in op.blocks[0].ops if o.name == "aref.put"):
            for value, copies in zip(put.args[1:], self._copies(e, put), strict=True):
                asked = self.requests[self.defs[value]]
                copies.hoist(pending(e, asked, asked.fixed))
        self.base["for"](e, op)

    def _load(self, e: Emitter, op: Op) -> None:
        if op in self.requests:
            e.bind(op.result, pending(e, self.requests[op], range(len(op.args) - 1)))
        else:
            self.base["load"](e, op)

    def _section(self, e: Emitter, op: Op) -> None:
        self.base["section"](e, op)
        for put in self.puts.values():
            if op.result in self._tensors(put):
                self._prepare_copies(e, put)

    def _store(self, e: Emitter, op: Op) -> None:
        tile = staged(op, room(self.plan.rings.values())) if op in self.sync.idle else None
        if tile is None:
            self.base["store"](e, op)
        else:
            store(e, op, tile, self.base["store"])
