"""Rows of the instruction table: memory, control flow, warp and block synchronisation."""

from __future__ import annotations

from typing import Any

from tilec.ir.ptx.forms import Form
from tilec.ir.ptx.isa_async import TUNED

F = Form
_ANY = "(b8|b16|b32|b64|u8|u16|u32|u64|s8|s16|s32|s64|f32|f64)"
_ORDER = "(.weak|.volatile|(.relaxed|.acquire)<scope>)?"
_STORE = "(.weak|.volatile|(.relaxed|.release)<scope>)?"
_CACHE = "(.ca|.cg|.cs|.lu|.cv)?"
_EVICT = (
    "(.L1::evict_normal|.L1::evict_unchanged|.L1::evict_first|.L1::evict_last|.L1::no_allocate)?"
    "<hint>(.L2::64B|.L2::128B|.L2::256B)?"
)
_90: dict[str, Any] = {"target": "sm_90", "version": (7, 8)}

MEMORY: tuple[Form, ...] = (
    F(f"ld.param(::entry)?(.v2|.v4)?.{_ANY}", "v a", "lsu", reads=("param",)),
    F(f"ld{_ORDER}(.global)?{_CACHE}{_EVICT}(.v2|.v4)?.{_ANY}", "v a s?", "lsu", reads=("global",),
      proxy="generic"),
    F(f"ld.global(.ca|.cg|.cs)?.nc{_EVICT}(.v2|.v4)?.{_ANY}", "v a s?", "lsu", reads=("global",),
      proxy="generic"),
    F(f"ld{_ORDER}.<shared>(.v2|.v4)?.{_ANY}", "v a", "lsu", reads=("shared",), proxy="generic"),
    F(f"ld(.weak|.volatile)?.(local|const)(.v2|.v4)?.{_ANY}", "v a", "lsu", reads=("local",)),
    F(f"st{_STORE}(.global)?(.wb|.cg|.cs|.wt)?{_EVICT}(.v2|.v4)?.{_ANY}", "a v s?", "lsu",
      writes=("global",), proxy="generic"),
    F(f"st{_STORE}.<shared>(.v2|.v4)?.{_ANY}", "a v", "lsu", writes=("shared",), proxy="generic"),
    F(f"st(.weak|.volatile)?.local(.v2|.v4)?.{_ANY}", "a v", "lsu", writes=("local",)),
    F("prefetch(.global)?.(L1|L2)", "a", "lsu"),
    F("prefetchu.L1", "a", "lsu"),
    F("prefetch(.param)?.tensormap", "a", "tma", "sm_90", (8, 0)),
    F("discard(.global)?.L2", "a i", "lsu", "sm_80", (7, 4)),
    F("createpolicy.fractional.(L2::evict_last|L2::evict_normal|L2::evict_first|L2::evict_unchanged)"
      "(.L2::evict_first|.L2::evict_unchanged)?.b64", "r s?", "alu", "sm_80", (7, 4)),
    F("ldmatrix.sync.aligned.(m8n8.x1|m8n8.x2|m8n8.x4|x1.m8n8|x2.m8n8|x4.m8n8)(.trans)?.<cta>.b16", "v a",
      "lsu", "sm_75", reads=("shared",), proxy="generic", aligned=True),
    F("stmatrix.sync.aligned.(m8n8.x1|m8n8.x2|m8n8.x4|x1.m8n8|x2.m8n8|x4.m8n8)(.trans)?.<cta>.b16", "a v",
      "lsu", writes=("shared",), proxy="generic", aligned=True, **_90),
    F("movmatrix.sync.aligned.m8n8.trans.b16", "r r", "alu", "sm_75", (7, 8), aligned=True),
    F("(atom|red)<sem>?<scope>?(.global)?.(and|or|xor|add|inc|dec|min|max|exch|cas)<hint>"
      ".(b32|b64|u32|u64|s32|s64|f32|f64)", "v v s? s? s?", "lsu", "sm_60", reads=("global",),
      writes=("global",), proxy="generic"),
    F("(atom|red)<sem>?<scope>?.<shared>.(and|or|xor|add|inc|dec|min|max|exch|cas)"
      ".(b32|b64|u32|u64|s32|s64|f32|f64)", "v v s? s?", "lsu", "sm_60", reads=("shared",),
      writes=("shared",), proxy="generic"),
    F("(atom|red)<sem>?<scope>?(.global|.<shared>)?.add.noftz.(f16|f16x2)", "v v s?", "lsu", "sm_70",
      reads=("global",), writes=("global",), proxy="generic"),
    F("(atom|red)<sem>?<scope>?(.global|.<shared>)?.add.noftz.(bf16|bf16x2)", "v v s?", "lsu",
      reads=("global",), writes=("global",), proxy="generic", **_90),
    F("(atom|red)<sem>?<scope>?.global.add(.noftz)?(.v2|.v4|.v8).(f32|f16|f16x2|bf16|bf16x2)", "v v v?",
      "lsu", "sm_90", (8, 1), reads=("global",), writes=("global",), proxy="generic"),
    F("mapa(.shared::cluster)?.(u32|u64)", "r s s", "alu", **_90),
    F("getctarank(.shared::cluster)?.(u32|u64)", "r s", "alu", **_90),
    F("st.async(.weak)?.shared::cluster.mbarrier::complete_tx::bytes(.v2|.v4)?.(b32|b64|u32|u64|s32|s64|f32"
      "|f64)", "a v a", "lsu", "sm_90", (8, 1), writes=("shared",), proxy="async"),
)  # fmt: skip

CONTROL: tuple[Form, ...] = (
    F("bra(.uni)?", "l", "ctrl"),
    F("brx.idx(.uni)?", "s l", "ctrl"),
    F("(ret|exit)(.uni)?", "", "ctrl"),
    F("trap", "", "ctrl"),
    F("brkpt", "", "ctrl"),
    F("nanosleep.u32", "s", "ctrl", "sm_70"),
    F("pmevent", "i", "ctrl"),
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
    F("fence(.sc|.acq_rel|.acquire|.release)?<scope>", "", "bar", "sm_70"),
)
