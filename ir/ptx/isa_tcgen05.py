"""Rows of the instruction table: tensor memory and the tensor cores of sm_100a."""

from __future__ import annotations

from typing import Any

from tilec.ir.ptx.forms import Form

F = Form
_100: dict[str, Any] = {"target": "sm_100f|sm_110f", "version": (8, 6)}
_INTEGER = "sm_100a|sm_101a|sm_110a"
_ALIGNED: dict[str, Any] = {"aligned": True, **_100}
_READS: dict[str, Any] = {"reads": ("shared",), "writes": ("tensor",), "proxy": "async", **_100}
_GROUP = "cta_group::(1|2)"
_COLLECT = "(.collector::a::(fill|use|lastuse|discard))?"
_SHIFTED = f"(.ashift)?{_COLLECT}"
_PLAIN = "a v s s V? p"
_SCALED = "a v s s a a p"

# Registers of a load or store: those of one repeat, and the largest repeat.
TENSOR_SHAPES = {
    "32x32b": (1, 128), "16x64b": (1, 128), "16x128b": (2, 64), "16x256b": (4, 32), "16x32bx2": (1, 128),
}  # fmt: skip


def _repeats(most: int) -> str:
    return "|".join(f"x{1 << i}" for i in range(most.bit_length()))


def _shape(name: str, most: int) -> str:
    return f"{name}.({_repeats(most)})"


_ALL = "|".join(_shape(n, most) for n, (_, most) in TENSOR_SHAPES.items() if n != "16x32bx2")
_HALVES = _shape("16x32bx2", 128)

TCGEN05: tuple[Form, ...] = (
    F(f"tcgen05.alloc.{_GROUP}.sync.aligned(.shared::cta)?.b32", "a s", "tensor", writes=("shared",),
      proxy="generic", **_ALIGNED),
    F(f"tcgen05.dealloc.{_GROUP}.sync.aligned.b32", "s s", "tensor", **_ALIGNED),
    F(f"tcgen05.relinquish_alloc_permit.{_GROUP}.sync.aligned", "", "tensor", **_ALIGNED),
    F(f"tcgen05.ld.sync.aligned.({_ALL})(.pack::16b)?.b32", "v a", "tensor", reads=("tensor",), **_ALIGNED),
    F(f"tcgen05.ld.sync.aligned.{_HALVES}(.pack::16b)?.b32", "v a i", "tensor", reads=("tensor",),
      **_ALIGNED),
    F(f"tcgen05.st.sync.aligned.({_ALL})(.unpack::16b)?.b32", "a v", "tensor", writes=("tensor",),
      **_ALIGNED),
    F(f"tcgen05.st.sync.aligned.{_HALVES}(.unpack::16b)?.b32", "a i v", "tensor", writes=("tensor",),
      **_ALIGNED),
    F("tcgen05.wait::(ld|st).sync.aligned", "", "tensor", **_ALIGNED),
    F("tcgen05.fence::(before_thread_sync|after_thread_sync)", "", "tensor", **_100),
    F(f"tcgen05.commit.{_GROUP}.mbarrier::arrive::one(.shared::cluster)?.b64", "a", "tensor", **_100),
    F(f"tcgen05.commit.{_GROUP}.mbarrier::arrive::one(.shared::cluster)?.multicast::cluster.b64", "a s",
      "tensor", **_100),
    F(f"tcgen05.cp.{_GROUP}.(128x256b|4x256b|128x128b|64x128b.warpx2::02_13|64x128b.warpx2::01_23"
      "|32x128b.warpx4)(.b8x16.(b6x16_p32|b4x16_p64))?", "a s", "tensor", **_READS),
    F(f"tcgen05.shift.{_GROUP}.down", "a", "tensor",
      "sm_100a|sm_101a|sm_103a|sm_110a", (8, 6), reads=("tensor",),
      writes=("tensor",)),
    F(f"tcgen05.mma.{_GROUP}.kind::(f16|tf32|f8f6f4){_SHIFTED}", _PLAIN, "tensor", **_READS),
    F(f"tcgen05.mma.{_GROUP}.kind::(f16|tf32){_SHIFTED}", f"{_PLAIN} i", "tensor",
      **{**_READS, "target": "sm_100f"}),
    F(f"tcgen05.mma.{_GROUP}.kind::i8{_SHIFTED}", _PLAIN, "tensor", **{**_READS, "target": _INTEGER}),
    F(f"tcgen05.mma.{_GROUP}.kind::(mxf8f6f4|mxf4).block_scale{_COLLECT}", _SCALED, "tensor", **_READS),
    F(f"tcgen05.mma.{_GROUP}.kind::mxf8f6f4.block_scale.scale_vec::1X{_COLLECT}", _SCALED, "tensor",
      **_READS),
    F(f"tcgen05.mma.{_GROUP}.kind::(mxf4|mxf4nvf4).block_scale.scale_vec::2X{_COLLECT}", _SCALED, "tensor",
      **_READS),
    F(f"tcgen05.mma.{_GROUP}.kind::mxf4nvf4.block_scale.scale_vec::4X{_COLLECT}", _SCALED, "tensor",
      **{**_READS, "version": (8, 7)}),
    F(f"tcgen05.mma.{_GROUP}.kind::(mxf8f6f4|mxf4|mxf4nvf4).block_scale.block32{_COLLECT}", _SCALED, "tensor",
      **{**_READS, "version": (8, 8)}),
    F(f"tcgen05.mma.{_GROUP}.kind::mxf4nvf4.block_scale.block16{_COLLECT}", _SCALED, "tensor",
      **{**_READS, "version": (8, 8)}),
    F("tcgen05.mma.ws.cta_group::1.kind::(f16|tf32|f8f6f4)(.collector::b(0|1|2|3)::(fill|use|lastuse"
      "|discard))?", "a v s s p s?", "tensor", **_READS),
    F("tcgen05.mma.ws.cta_group::1.kind::i8(.collector::b(0|1|2|3)::(fill|use|lastuse|discard))?",
      "a v s s p s?", "tensor", **{**_READS, "target": _INTEGER}),
)  # fmt: skip
