"""Rows of the instruction table: memory, control flow, warp and block synchronisation."""

from __future__ import annotations

from typing import Any

from tilec.ir.ptx.forms import Form
from tilec.ir.ptx.isa_async import TUNED

F = Form
_ANY = "(b8|b16|b32|b64|u8|u16|u32|u64|s8|s16|s32|s64|f32|f64)"
_SHORT = "(b8|b16|b32|u8|u16|u32|s8|s16|s32|f32)"
_UP_TO_16 = f"((.v2)?.{_ANY}|.v4.{_SHORT})"
_EIGHT = "(v8.(b32|u32|s32|f32)|v4.(b64|u64|s64|f64))"
_ORDER = "(.weak|.volatile|.mmio.relaxed.sys|(.relaxed|.acquire)<scope>)?"
_STORE = "(.weak|.volatile|.mmio.relaxed.sys|(.relaxed|.release)<scope>)?"
_CACHE = "(.ca|.cg|.cs|.lu|.cv)?"
_EVICT = (
    "(.L1::evict_normal|.L1::evict_unchanged|.L1::evict_first|.L1::evict_last|.L1::no_allocate)?"
    "(.L2::evict_normal|.L2::evict_first|.L2::evict_last)?<hint>(.L2::64B|.L2::128B|.L2::256B)?"
)
_90: dict[str, Any] = {"target": "sm_90", "version": (7, 8)}

MEMORY: tuple[Form, ...] = (
    F(f"ld.param(::entry|::func)?{_UP_TO_16}", "v a", "lsu", reads=("param",)),
    F(f"ld{_ORDER}(.global)?{_CACHE}{_EVICT}{_UP_TO_16}", "v a s?", "lsu", reads=("global",),
      proxy="generic"),
    F(f"ld.global(.ca|.cg|.cs)?.nc{_EVICT}{_UP_TO_16}", "v a s?", "lsu", reads=("global",),
      proxy="generic"),
    F(f"ld{_ORDER}(.global)?(.nc)?{_EVICT}.{_EIGHT}", "v a s?", "lsu", "sm_100", (8, 8), reads=("global",),
      proxy="generic"),
    F(f"ld{_ORDER}(.global|.<shared>)?(.nc)?{_CACHE}{_EVICT}.b128", "r a s?", "lsu", "sm_70", (8, 3),
      reads=("global",), proxy="generic"),
    F(f"st{_STORE}(.global|.<shared>)?{_EVICT}.b128", "a r s?", "lsu", "sm_70", (8, 3), writes=("global",),
      proxy="generic"),
    F(f"st{_STORE}(.global)?{_EVICT}.{_EIGHT}", "a v s?", "lsu", "sm_100", (8, 8), writes=("global",),
      proxy="generic"),
    F(f"ldu(.global)?{_UP_TO_16}", "v a", "lsu", reads=("global",), proxy="generic"),
    F(f"ld{_ORDER}.<shared>{_UP_TO_16}", "v a", "lsu", reads=("shared",), proxy="generic"),
    F(f"ld(.weak|.volatile)?.(local|const){_UP_TO_16}", "v a", "lsu", reads=("local",)),
    F(f"st{_STORE}(.global)?(.wb|.cg|.cs|.wt)?{_EVICT}{_UP_TO_16}", "a v s?", "lsu",
      writes=("global",), proxy="generic"),
    F(f"st{_STORE}.<shared>{_UP_TO_16}", "a v", "lsu", writes=("shared",), proxy="generic"),
    F(f"st.param(::func)?{_UP_TO_16}", "a v", "lsu", writes=("local",)),
    F(f"st(.weak|.volatile)?.local{_UP_TO_16}", "a v", "lsu", writes=("local",)),
    F("prefetch(.global|.local)?.(L1|L2)", "a", "lsu"),
    F("prefetch.global.(L2::evict_last|L2::evict_normal)", "a", "lsu", "sm_80", (7, 4)),
    F("prefetchu.L1", "a", "lsu"),
    F("applypriority(.global)?.L2::evict_normal", "a i", "lsu", "sm_80", (7, 4)),
    F("prefetch(.param|.const)?.tensormap", "a", "tma", "sm_90", (8, 0)),
    F("discard(.global)?.L2", "a i", "lsu", "sm_80", (7, 4)),
    F("createpolicy.fractional.(L2::evict_last|L2::evict_normal|L2::evict_first|L2::evict_unchanged)"
      "(.L2::evict_first|.L2::evict_unchanged)?.b64", "r s?", "alu", "sm_80", (7, 4)),
    F("createpolicy.range(.global)?.(L2::evict_last|L2::evict_normal|L2::evict_first|L2::evict_unchanged)"
      "(.L2::evict_first|.L2::evict_unchanged)?.b64", "r a s s", "alu", "sm_80", (7, 4)),
    F("createpolicy.cvt.L2.b64", "r s", "alu", "sm_80", (7, 4)),
    F("ldmatrix.sync.aligned.(m8n8.x1|m8n8.x2|m8n8.x4|x1.m8n8|x2.m8n8|x4.m8n8)(.trans)?(.<cta>)?.b16", "v a",
      "lsu", "sm_75", reads=("shared",), proxy="generic", aligned=True),
    F("stmatrix.sync.aligned.(m8n8.x1|m8n8.x2|m8n8.x4|x1.m8n8|x2.m8n8|x4.m8n8)(.trans)?(.<cta>)?.b16", "a v",
      "lsu", writes=("shared",), proxy="generic", aligned=True, **_90),
    F("ldmatrix.sync.aligned.m16n16.(x1|x2).trans.<cta>.(b8|b8x16.b4x16_p64|b8x16.b6x16_p32)", "V a", "lsu",
      "sm_100f|sm_110f|sm_120f", (8, 6), reads=("shared",), proxy="generic", aligned=True),
    F("ldmatrix.sync.aligned.m8n16.(x1|x2|x4).<cta>.b8x16.(b4x16_p64|b6x16_p32)", "V a", "lsu",
      "sm_100f|sm_110f|sm_120f", (8, 6), reads=("shared",), proxy="generic", aligned=True),
    F("stmatrix.sync.aligned.m16n8.(x1|x2|x4).trans.<cta>.b8", "a V", "lsu", "sm_100f|sm_110f|sm_120f",
      (8, 6), writes=("shared",), proxy="generic", aligned=True),
    F("movmatrix.sync.aligned.m8n8.trans.b16", "r r", "alu", "sm_75", (7, 8), aligned=True),
    F("atom<sem>?<scope>?(.global|.<shared>)?.cas.b16", "r a s s", "lsu", "sm_70", reads=("global",),
      writes=("global",), proxy="generic"),
    F("atom<sem>?<scope>?(.global|.<shared>)?.(exch|cas)<hint>.b128", "r a r r? s?", "lsu", "sm_90", (8, 3),
      reads=("global",), writes=("global",), proxy="generic"),
    F("(atom|red)<sem>?<scope>?(.global)?.(and|or|xor|add|inc|dec|min|max|exch|cas)<hint>"
      ".(b32|b64|u32|u64|s32|s64|f32|f64)", "v v s? s? s?", "lsu", "sm_60", reads=("global",),
      writes=("global",), proxy="generic"),
    F("(atom|red)<sem>?<scope>?.<shared>.(and|or|xor|add|inc|dec|min|max|exch|cas)"
      ".(b32|b64|u32|u64|s32|s64|f32|f64)", "v v s? s?", "lsu", "sm_60", reads=("shared",),
      writes=("shared",), proxy="generic"),
    F("(atom|red)<sem>?<scope>?(.global|.<shared>)?.add.noftz<hint>.(f16|f16x2)", "v v s? s?", "lsu", "sm_70",
      reads=("global",), writes=("global",), proxy="generic"),
    F("(atom|red)<sem>?<scope>?(.global|.<shared>)?.add.noftz<hint>.(bf16|bf16x2)", "v v s? s?", "lsu",
      reads=("global",), writes=("global",), proxy="generic", **_90),
    F("(atom|red)<sem>?<scope>?.global.(add|min|max)(.noftz)?<hint>(.v2|.v4|.v8).(f32|f16|f16x2|bf16|bf16x2)",
      "v v v? s?", "lsu", "sm_90", (8, 1), reads=("global",), writes=("global",), proxy="generic"),
    F("mapa(.shared::cluster)?.(u32|u64)", "r s s", "alu", **_90),
    F("getctarank(.shared::cluster)?.(u32|u64)", "r s", "alu", **_90),
    F("st.bulk(.weak)?(.shared::cta)?", "a s i", "lsu", "sm_100", (8, 6), writes=("shared",),
      proxy="generic"),
    F("st.async(.mmio)?.release(.gpu|.sys).global.(b8|b16|b32|b64|u8|u16|u32|u64|s8|s16|s32|s64|f32|f64)",
      "a s", "lsu", "sm_100", (8, 7), writes=("global",), proxy="generic"),
    F("red.async.release(.gpu|.cluster).global.add.(u32|s32|u64|s64)", "a s", "lsu", "sm_100", (8, 7),
      writes=("global",), proxy="generic"),
    F("red.async.relaxed.cluster.shared::cluster.mbarrier::complete_tx::bytes.(add|inc|dec|min|max|and|or|xor)"
      ".(u32|s32|b32|u64)", "a s a", "lsu", "sm_90", (8, 1), writes=("shared",), proxy="async"),
    F("st.async(.weak|.cluster)?.shared::cluster.mbarrier::complete_tx::bytes(.v2|.v4)?.(b32|b64|u32|u64|s32|s64|f32"
      "|f64)", "a v a", "lsu", "sm_90", (8, 1), writes=("shared",), proxy="async"),
)  # fmt: skip

CONTROL: tuple[Form, ...] = (
    F("bra(.uni)?", "l", "ctrl"),
    F("brx.idx(.uni)?", "s l", "ctrl"),
    F("(ret|exit)(.uni)?", "", "ctrl"),
    F("call(.uni)?", "A? s A? l?", "ctrl"),
    F("trap", "", "ctrl"),
    F("brkpt", "", "ctrl"),
    F("nanosleep.u32", "s", "ctrl", "sm_70"),
    F("pmevent(.mask)?", "i", "ctrl"),
    F("griddepcontrol.(launch_dependents|wait)", "", "ctrl", **_90),
    F("setmaxnreg.(inc|dec).sync.aligned.u32", "i", "ctrl", TUNED, (8, 0), aligned=True),
)

WARP: tuple[Form, ...] = (
    F("shfl.sync.(up|down|bfly|idx).b32", "d s s s s", "lsu"),
    F("vote.sync.(all|any|uni).pred", "r p s", "alu"),
    F("vote.sync.ballot.b32", "r p s", "alu"),
    F("match.any.sync.(b32|b64)", "r s s", "alu", "sm_70"),
    F("match.all.sync.(b32|b64)", "d s s", "alu", "sm_70"),
    F("activemask.b32", "r", "alu"),
    F("redux.sync.(add|min|max).(u32|s32)", "r s s", "alu", "sm_80"),
    F("redux.sync.(and|or|xor).b32", "r s s", "alu", "sm_80"),
    F("redux.sync.(min|max)(.abs)?(.NaN)?.f32", "r s s", "alu", "sm_100f", (8, 6)),
    F("elect.sync", "d s", "alu", "sm_90", (8, 0)),
)

BARRIER: tuple[Form, ...] = (
    F("bar.warp.sync", "s", "bar", "sm_70"),
    F("(bar|bar.cta).sync", "s s?", "bar", aligned=True),
    F("(bar|bar.cta).arrive", "s s", "bar", aligned=True),
    F("(barrier|barrier.cta).sync(.aligned)?", "s s?", "bar"),
    F("(barrier|barrier.cta).arrive(.aligned)?", "s s", "bar"),
    F("(bar|bar.cta).red.popc.u32", "r s s? p", "bar", aligned=True),
    F("(bar|bar.cta).red.(and|or).pred", "r s s? p", "bar", aligned=True),
    F("(barrier|barrier.cta).red.popc(.aligned)?.u32", "r s s? p", "bar"),
    F("(barrier|barrier.cta).red.(and|or)(.aligned)?.pred", "r s s? p", "bar"),
    F("barrier.cluster.arrive(.release|.relaxed)?(.aligned)?", "", "bar", **_90),
    F("barrier.cluster.wait(.acquire)?(.aligned)?", "", "bar", **_90),
    F("membar.(cta|gl|sys)", "", "bar"),
    F("membar.proxy.alias", "", "bar", "sm_70", (7, 5)),
    F("membar.proxy.async(.global|.shared::cta|.shared::cluster)?", "", "bar", "sm_90", (8, 0)),
    F(
        "fence.(acquire.sync_restrict::shared::cluster|release.sync_restrict::shared::cta).cluster",
        "",
        "bar",
        "sm_90",
        (8, 6),
    ),
    F(
        "fence.proxy.async::generic.(acquire.sync_restrict::shared::cluster|release.sync_restrict::shared::cta)"
        ".cluster",
        "",
        "bar",
        "sm_90",
        (8, 6),
    ),
    F("fence(.sc|.acq_rel|.acquire|.release)?<scope>", "", "bar", "sm_70"),
)
