"""Register tiles to shared memory and back, in the layouts that TMA and wgmma use.

A layout is linear over GF(2), and so is the swizzle: the address of register r in a
thread is  start + (swizzle(T) ^ swizzle(R mod 1024)) + (R - R mod 1024)  with T the
thread's and R the register's linear address, wherever both never set the same low bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tilec.backends.ptx.context import Emitter, Fragment, register_type
from tilec.backends.ptx.coords import inside, is_first_holder, runs
from tilec.backends.ptx.hopper_smem import BITS, SmemTile, swizzled
from tilec.backends.ptx.hopper_views import Dims
from tilec.ir.layout import Basis, Layout
from tilec.ir.ptx.module import Addr, Int, Not, Reg, f32, f64
from tilec.ir.types import DType
from tilec.passes.allocate import TILE_ALIGN

LOW = TILE_ALIGN - 1


@dataclass(frozen=True)
class Place:
    """Where a fragment lies in shared memory: layout of the memory, start, dimension of each axis."""

    tile: SmemTile
    base: Reg
    dims: Dims


def weight(place: Place, coords: Basis) -> int:
    """The linear byte offset of tile coordinates, before the swizzle."""
    index = [0] * len(place.tile.shape)
    for axis, c in enumerate(coords):
        d = place.dims[axis]
        if d is not None:
            index[d] = c
    return place.tile.linear(place.tile.row(tuple(index)), index[place.tile.inner] * place.tile.es)


def separable(place: Place, layout: Layout, origin: Basis = ()) -> bool:
    """Whether the low address bits of registers and threads, and of an origin, never meet, nor carry."""
    bases = (*layout.reg, *layout.lane, *layout.warp, *((origin,) if any(origin) else ()))
    lows = [weight(place, b) & LOW for b in bases]
    union = 0
    for low in lows:
        union |= low
    return union == sum(lows)


class Addresses:
    """Addresses of a fragment's registers in shared memory, for the current thread."""

    def __init__(self, e: Emitter, place: Place, layout: Layout, origin: Basis = ()) -> None:
        self.e, self.place, self.layout = e, place, layout
        self.split = separable(place, layout, origin)
        key = ("stage", place.tile, place.dims, layout.lane, layout.warp)
        self.thread: Reg = e.cached(key, self._thread)

    def _thread(self) -> Reg:
        total = self.e.make("b32", "mov.b32", 0)
        for source, bases in ((self.e.lane, self.layout.lane), (self.e.warp, self.layout.warp)):
            for run in runs([weight(self.place, b) for b in bases]):
                total = self._plus(total, source(), run)
        return self.swizzle(total) if self.split else total

    def _plus(self, total: Reg, source: Reg, run: tuple[int, int, int]) -> Reg:
        first, n, start = run
        part = self.e.make("b32", "bfe.u32", source, first, n)
        return self.e.make("b32", "mad.lo.s32", part, start, total)

    def swizzle(self, linear: Reg) -> Reg:
        bits = BITS[self.place.tile.swizzle]
        if not bits:
            return linear
        row = self.e.make("b32", "bfe.u32", linear, 7, bits)
        return self.e.make("b32", "xor.b32", linear, self.e.make("b32", "shl.b32", row, 4))

    def address(self, coords: Basis) -> Addr:
        """The address of the element with these register coordinates."""
        linear = weight(self.place, coords)
        if not self.split:
            full = self.e.make("b32", "add.s32", self.thread, linear)
            return Addr(self.e.make("b32", "add.s32", self.swizzle(full), self.place.base))
        low = swizzled(linear & LOW, self.place.tile.swizzle)
        key = ("staged", self.thread, self.place.base, low)
        return Addr(self.e.cached(key, lambda: self._base(low)), linear & ~LOW)

    def _base(self, low: int) -> Reg:
        moved = self.e.make("b32", "xor.b32", self.thread, low) if low else self.thread
        return self.e.make("b32", "add.s32", moved, self.place.base)


def write(e: Emitter, fragment: Fragment, place: Place, origin: Basis | None = None) -> None:
    """Store the elements of a fragment; padding is left out, copies are stored once.

    With ``origin`` the fragment has the registers of a part that begins there; its shape is the whole one.
    """
    origin = origin or (0,) * len(fragment.shape)
    first = is_first_holder(e, fragment.layout)
    if first is None:
        _write(e, fragment, place, origin)
        return
    skip = e.label("held")
    e.emit("bra", skip, pred=Not(first))
    with e.scope():
        _write(e, fragment, place, origin)
    e.place(skip)


def _write(e: Emitter, fragment: Fragment, place: Place, origin: Basis) -> None:
    addresses = Addresses(e, place, fragment.layout, origin)
    for coords, regs in groups(fragment, place):
        moved = tuple(a + b for a, b in zip(coords, origin, strict=True))
        _store(e, fragment, moved, regs, addresses)


def groups(fragment: Fragment, place: Place) -> Iterator[tuple[Basis, tuple[Reg, ...]]]:
    """Registers with the coordinates of the first: neighbours of 16 or 32 bits in pairs."""
    coords = fragment.layout.register_coords()
    step = 2 if _paired(fragment, place) else 1
    for i in range(0, len(coords), step):
        yield coords[i], fragment.regs[i : i + step]


def _paired(fragment: Fragment, place: Place) -> bool:
    reg = fragment.layout.reg
    if _pair_form(fragment.dtype) is None or not reg:
        return False
    axis = next(i for i, n in enumerate(reg[0]) if n)
    whole = fragment.shape[axis] % 2 == 0
    return whole and place.dims[axis] == place.tile.inner and weight(place, reg[0]) == fragment.dtype.bytes


def _pair_form(dtype: DType) -> str | None:
    """The type of an access of two neighbours: one word of two halves, or two words."""
    if dtype.bits == 16:
        return "b32" if dtype.is_float else None
    return f"v2.{memory_type(dtype)}" if dtype.bits == 32 else None


def _store(e: Emitter, f: Fragment, coords: Basis, regs: tuple[Reg, ...], addresses: Addresses) -> None:
    ok = inside(e, f.layout, f.shape, coords)
    if ok is False:
        return
    guard = ok if isinstance(ok, Reg) else None
    form, value = memory_type(f.dtype), regs[0]
    if f.dtype.kind == "bool":
        value = e.make("b32", "selp.b32", 1, 0, regs[0])
    if len(regs) == 2:
        form = str(_pair_form(f.dtype))
    if form == "b32" and len(regs) == 2:
        value = e.make("b32", "mov.b32", regs)
    pair = len(regs) == 2 and form != "b32"
    e.emit(f"st.shared.{form}", addresses.address(coords), regs if pair else value, pred=guard)


def memory_type(dtype: DType) -> str:
    """The type of a plain load or store of one element; small integers extend when loaded."""
    if dtype.kind == "bool":
        return "u8"
    if dtype.is_float:
        return {64: "f64", 32: "f32", 16: "b16", 8: "b8"}[dtype.bits]
    return f"b{dtype.bits}" if dtype.bits >= 32 else f"{'s' if dtype.kind == 'int' else 'u'}{dtype.bits}"


def read(e: Emitter, fragment: Fragment, place: Place) -> None:
    """Load the elements of a fragment of fresh registers; padding reads anything that is there."""
    addresses = Addresses(e, place, fragment.layout)
    for coords, regs in groups(fragment, place):
        if any(c >= n for c, n in zip(coords, fragment.shape, strict=True)):
            _clear(e, fragment.dtype, regs)
            continue
        ok = inside(e, fragment.layout, fragment.shape, coords)
        _load(e, fragment.dtype, regs, addresses.address(coords), ok if isinstance(ok, Reg) else None)


def _load(e: Emitter, dtype: DType, regs: tuple[Reg, ...], where: Addr, guard: Reg | None) -> None:
    if guard is not None:
        _clear(e, dtype, regs)
    if len(regs) == 2 and dtype.bits == 16:
        pair = e.make("b32", "mov.b32", 0)
        e.emit("ld.shared.b32", pair, where, pred=guard)
        e.emit("mov.b32", regs, pair)
    elif len(regs) == 2:
        e.emit(f"ld.shared.{_pair_form(dtype)}", regs, where, pred=guard)
    elif dtype.kind == "bool":
        byte = e.make("b32", "mov.b32", 0)
        e.emit("ld.shared.u8", byte, where, pred=guard)
        e.emit("setp.ne.u32", regs[0], byte, 0)
    else:
        e.emit(f"ld.shared.{memory_type(dtype)}", regs[0], where, pred=guard)


def _clear(e: Emitter, dtype: DType, regs: tuple[Reg, ...]) -> None:
    kind = register_type(dtype)
    for reg in regs:
        if kind == "pred":
            e.emit("setp.ne.u32", reg, thread_zero(e), 0)
        else:
            e.emit(f"mov.{kind}", reg, {"f32": f32(0.0), "f64": f64(0.0)}.get(kind, Int(0)))


def thread_zero(e: Emitter) -> Reg:
    """A register that holds 0."""
    return e.cached("zero", lambda: e.make("b32", "mov.b32", 0))  # type: ignore[no-any-return]
