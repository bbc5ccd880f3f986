"""Rows of the instruction table: mbarriers, copies, fences, tensor cores."""

from __future__ import annotations

from typing import Any

from tilec.ir.ptx.forms import Form

F = Form
_80: dict[str, Any] = {"target": "sm_80", "version": (7, 0)}
_90: dict[str, Any] = {"target": "sm_90", "version": (8, 0)}
_90A: dict[str, Any] = {"target": "sm_90a", "version": (8, 0)}
# What sm_90a introduced and the "a" and "f" targets of sm_100 and later kept.
TUNED = "sm_90a|sm_100f|sm_110f|sm_120f"
_SEM = "((.release|.acquire|.relaxed)?(.cta|.cluster))?"

MBARRIER: tuple[Form, ...] = (
    F("mbarrier.(init).shared.b64", "a s", "lsu", **_80),
    F("mbarrier.inval.shared.b64", "a", "lsu", **_80),
    F("mbarrier.init.shared::cta.b64", "a s", "lsu", "sm_80", (7, 8)),
    F("mbarrier.inval.shared::cta.b64", "a", "lsu", "sm_80", (7, 8)),
    F("mbarrier.(arrive|arrive_drop)(.noComplete)?.shared.b64", "r a s?", "lsu", **_80),
    F(f"mbarrier.(arrive|arrive_drop){_SEM}(.noComplete)?.<cta>.b64", "r a s?", "lsu", "sm_80", (7, 8)),
    F(f"mbarrier.(arrive|arrive_drop){_SEM}.shared::cluster.b64", "r a s?", "lsu", **_90),
    F(f"mbarrier.(arrive|arrive_drop).expect_tx{_SEM}.<shared>.b64", "r a s", "lsu", **_90),
    F("mbarrier.(expect_tx|complete_tx)(.relaxed)?(.cta|.cluster)?.<shared>.b64", "a s", "lsu", **_90),
    F(f"mbarrier.test_wait{_SEM}.<cta>.b64", "r a s", "lsu", **_80),
    F(f"mbarrier.test_wait.parity{_SEM}.<cta>.b64", "r a s", "lsu", "sm_80", (7, 1)),
    F(f"mbarrier.try_wait{_SEM}.<cta>.b64", "r a s s?", "lsu", "sm_90", (7, 8)),
    F(f"mbarrier.try_wait.parity{_SEM}.<cta>.b64", "r a s s?", "lsu", "sm_90", (7, 8)),
    F("mbarrier.init.b64", "a s", "lsu", **_80),
    F("mbarrier.inval.b64", "a", "lsu", **_80),
    F(f"mbarrier.(arrive|arrive_drop){_SEM}(.noComplete)?.b64", "r a s?", "lsu", **_80),
    F(f"mbarrier.(arrive|arrive_drop).expect_tx{_SEM}.b64", "r a s", "lsu", **_90),
    F(f"mbarrier.(arrive|arrive_drop).noComplete{_SEM}.<cta>.b64", "r a s", "lsu", **_80),
    F(f"mbarrier.test_wait(.parity)?{_SEM}.b64", "r a s", "lsu", "sm_80", (7, 1)),
    F(f"mbarrier.try_wait(.parity)?{_SEM}.b64", "r a s s?", "lsu", "sm_90", (7, 8)),
    F("mbarrier.pending_count.b64", "r s", "alu", **_80),
    F("cp.async.mbarrier.arrive(.noinc)?.<cta>.b64", "a", "lsu", **_80),
)

_BULK = "mbarrier::complete_tx::bytes"
_PAIR = "cta_group::(1|2)"
_LOAD_100: dict[str, Any] = {
    "target": "sm_100f|sm_110f", "version": (8, 6), "reads": ("global",), "writes": ("shared",),
    "proxy": "async",
}  # fmt: skip
_RED = "(add|min|max|inc|dec|and|or|xor)"

COPY: tuple[Form, ...] = (
    F("cp.async.(ca|cg).<cta>.global<hint>(.L2::64B|.L2::128B|.L2::256B)?", "a a i s? s?", "lsu",
      reads=("global",), writes=("shared",), proxy="generic", **_80),
    F("cp.async.commit_group", "", "lsu", **_80),
    F("cp.async.wait_group", "i", "lsu", **_80),
    F("cp.async.wait_all", "", "lsu", **_80),
    F(f"cp.async.bulk.shared::cluster.global.{_BULK}(.multicast::cluster)?<hint>", "a a s a s? s?", "tma",
      reads=("global",), writes=("shared",), proxy="async", **_90),
    F(f"cp.async.bulk.shared::cta.global.{_BULK}<hint>", "a a s a s?", "tma", "sm_90", (8, 6),
      reads=("global",), writes=("shared",), proxy="async"),
    F(f"cp.async.bulk.shared::cluster.shared::cta.{_BULK}", "a a s a", "tma", reads=("shared",),
      writes=("shared",), proxy="async", **_90),
    F("cp.async.bulk.global.shared::cta.bulk_group<hint>", "a a s s?", "tma", reads=("shared",),
      writes=("global",), proxy="async", **_90),
    F("cp.async.bulk.global.shared::cta.bulk_group<hint>.cp_mask", "a a s s? s", "tma", "sm_100", (8, 6),
      reads=("shared",), writes=("global",), proxy="async"),
    F(f"cp.reduce.async.bulk.shared::cluster.shared::cta.{_BULK}.{_RED}.(b32|u32|s32|b64|u64)", "a a s a",
      "tma", reads=("shared",), writes=("shared",), proxy="async", **_90),
    F(f"cp.reduce.async.bulk.global.shared::cta.bulk_group<hint>.{_RED}(.noftz)?"
      ".(f16|bf16|b32|u32|s32|b64|u64|s64|f32|f64)", "a a s s?", "tma", reads=("shared",),
      writes=("global",), proxy="async", **_90),
    F(f"cp.async.bulk.tensor.(1|2|3|4|5)d.shared::cluster.global(.tile)?.{_BULK}"
      "(.multicast::cluster)?<hint>", "a t a s? s?", "tma", reads=("global",), writes=("shared",),
      proxy="async", **_90),
    F(f"cp.async.bulk.tensor.(1|2|3|4|5)d.shared::cta.global(.tile)?.{_BULK}<hint>", "a t a s?", "tma",
      "sm_90", (8, 6), reads=("global",), writes=("shared",), proxy="async"),
    F(f"cp.async.bulk.tensor.(1|2|3|4|5)d.shared::(cluster|cta).global(.tile)?.{_BULK}"
      f"(.multicast::cluster)?.{_PAIR}<hint>", "a t a s? s?", "tma", **_LOAD_100),
    F(f"cp.async.bulk.tensor.(1|2|3|4|5)d.{_PAIR}.shared::(cluster|cta).global(.tile)?.{_BULK}"
      "(.multicast::cluster)?<hint>", "a t a s? s?", "tma", **_LOAD_100),
    F(f"cp.async.bulk.tensor.2d.shared::(cluster|cta).global.tile::gather4.{_BULK}"
      f"(.multicast::cluster)?(.{_PAIR})?<hint>", "a t a s? s?", "tma", **_LOAD_100),
    F(f"cp.async.bulk.tensor.(3|4|5)d.shared::(cluster|cta).global.(im2col|im2col::w|im2col::w::128).{_BULK}"
      f"(.multicast::cluster)?(.{_PAIR})?<hint>", "a t a V s? s?", "tma", reads=("global",),
      writes=("shared",), proxy="async", **_90),
    F("cp.async.bulk.tensor.(1|2|3|4|5)d.global.shared::cta(.tile)?.bulk_group<hint>", "t a s?", "tma",
      reads=("shared",), writes=("global",), proxy="async", **_90),
    F("cp.async.bulk.tensor.2d.global.shared::cta.tile::scatter4.bulk_group<hint>", "t a s?", "tma",
      "sm_100f|sm_110f", (8, 6), reads=("shared",), writes=("global",), proxy="async"),
    F("cp.async.bulk.tensor.(3|4|5)d.global.shared::cta.im2col_no_offs.bulk_group<hint>", "t a s?", "tma",
      reads=("shared",), writes=("global",), proxy="async", **_90),
    F(f"cp.reduce.async.bulk.tensor.(1|2|3|4|5)d.global.shared::cta.{_RED}(.tile|.im2col_no_offs)?.bulk_group"
      "<hint>", "t a s?", "tma", reads=("shared",), writes=("global",), proxy="async", **_90),
    F("cp.async.bulk.prefetch.tensor.(1|2|3|4|5)d.L2.global(.tile)?<hint>", "t s?", "tma", **_90),
    F("cp.async.bulk.prefetch.tensor.2d.L2.global.tile::gather4<hint>", "t s?", "tma", "sm_100f|sm_110f",
      (8, 6)),
    F("cp.async.bulk.prefetch.tensor.(3|4|5)d.L2.global.(im2col|im2col::w|im2col::w::128)<hint>", "t V s?",
      "tma", **_90),
    F("cp.async.bulk.prefetch.L2.global<hint>", "a s s?", "tma", **_90),
    F("cp.async.bulk.commit_group", "", "tma", **_90),
    F("cp.async.bulk.wait_group(.read)?", "i", "tma", **_90),
    F("tensormap.replace.tile.(global_address|rank|box_dim|global_dim|global_stride|element_stride|elemtype"
      "|interleave_layout|swizzle_mode|fill_mode)(.global|.shared::cta)?(.b1024)?.(b32|b64)", "a s s?", "lsu",
      TUNED, (8, 3)),
    F("tensormap.replace.tile.swizzle_atomicity(.global|.shared::cta)?(.b1024)?.b32", "a s", "lsu",
      "sm_100f|sm_110f|sm_120f", (8, 6)),
    F("clusterlaunchcontrol.try_cancel.async(.shared::cta)?.mbarrier::complete_tx::bytes.b128", "a a", "tma",
      "sm_100", (8, 6), writes=("shared",), proxy="async"),
    F("clusterlaunchcontrol.try_cancel.async(.shared::cta)?.mbarrier::complete_tx::bytes"
      ".multicast::cluster::all.b128", "a a", "tma", "sm_100f|sm_110f|sm_120f", (8, 6), writes=("shared",),
      proxy="async"),
    F("clusterlaunchcontrol.query_cancel.is_canceled.pred.b128", "r r", "alu", "sm_100", (8, 6)),
    F("clusterlaunchcontrol.query_cancel.get_first_ctaid.v4.b32.b128", "V r", "alu", "sm_100", (8, 6)),
    F("clusterlaunchcontrol.query_cancel.get_first_ctaid::(x|y|z).b32.b128", "r r", "alu", "sm_100", (8, 6)),
    F("tensormap.cp_fenceproxy.global.shared::cta.tensormap::generic.release<scope>.sync.aligned", "a a i",
      "lsu", "sm_90", (8, 3), reads=("shared",), writes=("global",), proxy="generic", aligned=True),
    F("fence.proxy.async(.global|.shared::cta|.shared::cluster)?", "", "bar", **_90),
    F("fence.proxy.alias", "", "bar", "sm_70", (7, 5)),
    F("fence.mbarrier_init.release.cluster", "", "bar", **_90),
    F("fence.proxy.tensormap::generic.release<scope>", "", "bar", "sm_90", (8, 3)),
    F("fence.proxy.tensormap::generic.acquire<scope>", "a i", "bar", "sm_90", (8, 3)),
)  # fmt: skip

_N = "n(8|16|24|32|40|48|56|64|72|80|88|96|104|112|120|128|136|144|152|160|168|176|184|192|200|208|216|224" \
     "|232|240|248|256)"  # fmt: skip
_N8 = "n(8|16|24|32|48|64|80|96|112|128|144|160|176|192|208|224|240|256)"
_WG: dict[str, Any] = {"aligned": True, **_90A}
_MMA: dict[str, Any] = {"reads": ("shared",), "proxy": "async", **_WG}
_8 = "(e4m3|e5m2)"

TENSOR: tuple[Form, ...] = (
    F("wgmma.fence.sync.aligned", "", "tensor", **_WG),
    F("wgmma.commit_group.sync.aligned", "", "tensor", **_WG),
    F("wgmma.wait_group.sync.aligned", "i", "tensor", **_WG),
    F(f"wgmma.mma_async.sync.aligned.m64{_N}k16.(f32|f16).f16.f16", "V v r s i i i i?", "tensor", **_MMA),
    F(f"wgmma.mma_async.sync.aligned.m64{_N}k16.f32.bf16.bf16", "V v r s i i i i?", "tensor", **_MMA),
    F(f"wgmma.mma_async.sync.aligned.m64{_N}k8.f32.tf32.tf32", "V v r s i i", "tensor", **_MMA),
    F(f"wgmma.mma_async.sync.aligned.m64{_N}k32.(f32|f16).{_8}.{_8}", "V v r s i i", "tensor", **_MMA),
    F(f"wgmma.mma_async.sync.aligned.m64{_N8}k32(.satfinite)?.s32.(s8.s8|u8.u8)", "V v r s", "tensor",
      **_MMA),
    F(f"wgmma.mma_async.sync.aligned.m64{_N8}k32(.satfinite)?.s32.(s8.u8|u8.s8)", "V v r s", "tensor",
      **{**_MMA, "version": (8, 4)}),
)  # fmt: skip
