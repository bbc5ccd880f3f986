"""Rows of the instruction table: moves, conversions, arithmetic, comparison.

Source of versions and targets: NVIDIA's PTX ISA manual, section "Target ISA Notes" of
each instruction; checked by assembling every form with ptxas in the tests.
"""

from __future__ import annotations

from typing import Any

from tilec.ir.ptx.forms import Form

F = Form
_90: dict[str, Any] = {"target": "sm_90", "version": (7, 8)}

ALU: tuple[Form, ...] = (
    F("mov.(pred|b16|b32|b64|b128|u16|u32|u64|s16|s32|s64|f32|f64)", "v v", "alu"),
    F("cvta(.to)?.(global|shared|local|const|param).(u32|u64)", "r s", "alu"),
    F("isspacep.(global|<shared>|local|const|param)", "r s", "alu"),
    F("(add|sub)(.sat)?.(s32)", "r s s", "alu"),
    F("(add|sub).<int>", "r s s", "alu"),
    F("(add|sub)(.cc)?.(s32|u32|s64|u64)", "r s s", "alu"),
    F("(addc|subc)(.cc)?.(s32|u32|s64|u64)", "r s s", "alu"),
    F("(mul|mad).(lo|hi).<int>", "r s s s?", "alu"),
    F("(mul|mad).wide.(s16|u16|s32|u32)", "r s s s?", "alu"),
    F("(mul24|mad24).(lo|hi).(s32|u32)", "r s s s?", "alu"),
    F("(div|rem).<int>", "r s s", "alu"),
    F("sad.<int>", "r s s s", "alu"),
    F("(min|max).<int>", "r s s", "alu"),
    F("(abs|neg).(s16|s32|s64)", "r s", "alu"),
    F("(dp4a|dp2a.lo|dp2a.hi).(s32|u32).(s32|u32)", "r s s s", "alu", "sm_61"),
    F("(and|or|xor).(pred|b16|b32|b64)", "r s s", "alu"),
    F("not.(pred|b16|b32|b64)", "r s", "alu"),
    F("cnot.<bits>", "r s", "alu"),
    F("shl.<bits>", "r s s", "alu"),
    F("shr.(b16|b32|b64|s16|s32|s64|u16|u32|u64)", "r s s", "alu"),
    F("shf.(l|r).(clamp|wrap).b32", "r s s s", "alu"),
    F("bfe.(s32|u32|s64|u64)", "r s s s", "alu"),
    F("bfi.(b32|b64)", "r s s s s", "alu"),
    F("bfind(.shiftamt)?.(s32|u32|s64|u64)", "r s", "alu"),
    F("bmsk.(clamp|wrap).b32", "r s s", "alu"),
    F("fns.b32", "r s s s", "alu"),
    F("(popc|clz|brev).(b32|b64)", "r s", "alu"),
    F("prmt.b32(.f4e|.b4e|.rc8|.ecl|.ecr|.rc16)?", "r s s s", "alu"),
    F("lop3.b32", "r s s s i", "alu"),
    F("szext.(clamp|wrap).(s32|u32)", "r s s", "alu"),
    F("selp.(b16|b32|b64|u16|u32|u64|s16|s32|s64|f32|f64)", "r s s p", "alu"),
    F("slct(.ftz)?.(b16|b32|b64|u16|u32|u64|s16|s32|s64|f32|f64).(s32|f32)", "r s s s", "alu"),
    F("setp.<cmp>.(b16|b32|b64|u16|u32|u64|s16|s32|s64)", "d s s", "alu"),
    F("setp.<cmp>.(and|or|xor).(b16|b32|b64|u16|u32|u64|s16|s32|s64)", "d s s p", "alu"),
    F("setp.<cmp>(.ftz)?.(f32|f64|f16|f16x2)", "d s s", "fp"),
    F("setp.<cmp>.(and|or|xor)(.ftz)?.(f32|f64|f16|f16x2)", "d s s p", "fp"),
    F("setp.<cmp>.(bf16|bf16x2)", "d s s", "fp", **_90),
    F("set.<cmp>(.ftz)?.(u32|s32|f32).(b16|b32|b64|u16|u32|u64|s16|s32|s64|f32|f64)", "r s s", "alu"),
)

FLOAT: tuple[Form, ...] = (
    F("(add|sub|mul)(.rn|.rz|.rm|.rp)?(.ftz)?(.sat)?.f32", "r s s", "fp"),
    F("(add|sub|mul)(.rn|.rz|.rm|.rp)?.f64", "r s s", "fp"),
    F("(add|sub|mul)(.rn|.rz|.rm|.rp)?(.ftz)?.f32x2", "r s s", "fp", "sm_100", (8, 6)),
    F("fma.(rn|rz|rm|rp)(.ftz)?.f32x2", "r s s s", "fp", "sm_100", (8, 6)),
    F("(add|sub|mul)(.rn)?(.ftz)?(.sat)?.(f16|f16x2)", "r s s", "fp", "sm_53"),
    F("(add|sub|mul)(.rn)?.(bf16|bf16x2)", "r s s", "fp", **_90),
    F("fma.(rn|rz|rm|rp)(.ftz)?(.sat)?.f32", "r s s s", "fp"),
    F("mad(.rn|.rz|.rm|.rp)(.ftz)?(.sat)?.f32", "r s s s", "fp"),
    F("fma.(rn|rz|rm|rp).f64", "r s s s", "fp"),
    F("fma.rn(.ftz)?(.sat|.relu)?.(f16|f16x2)", "r s s s", "fp", "sm_80"),
    F("fma.rn(.relu)?.(bf16|bf16x2)", "r s s s", "fp", "sm_80"),
    F("(min|max)(.ftz)?(.NaN)?(.xorsign.abs)?.f32", "r s s", "fp", "sm_80"),
    F("(min|max)(.ftz)?(.NaN)?(.abs)?.f32", "r s s s", "fp", "sm_100", (8, 8)),
    F("(min|max).f64", "r s s", "fp"),
    F("(min|max)(.ftz)?(.NaN)?(.xorsign.abs)?.(f16|f16x2)", "r s s", "fp", "sm_80"),
    F("(min|max)(.NaN)?(.xorsign.abs)?.(bf16|bf16x2)", "r s s", "fp", "sm_80"),
    F("(abs|neg)(.ftz)?.(f32|f64)", "r s", "fp"),
    F("(abs|neg)(.ftz)?.<half>", "r s", "fp", "sm_80"),
    F("copysign.(f32|f64)", "r s s", "fp"),
    F("testp.(finite|infinite|number|notanumber|normal|subnormal).(f32|f64)", "r s", "fp"),
    F("div(.full|.approx)(.ftz)?.f32", "r s s", "fp"),
    F("div(.rn|.rz|.rm|.rp)(.ftz)?.f32", "r s s", "fp"),
    F("div.(rn|rz|rm|rp).f64", "r s s", "fp"),
    F("(rcp|sqrt).(approx|rn|rz|rm|rp)(.ftz)?.f32", "r s", "sfu"),
    F("(rcp|sqrt).(rn|rz|rm|rp).f64", "r s", "sfu"),
    F("(rsqrt|sin|cos|lg2|ex2).approx(.ftz)?.f32", "r s", "sfu"),
    F("rcp.approx.ftz.f64", "r s", "sfu"),
    F("rsqrt.approx(.ftz)?.f64", "r s", "sfu"),
    F("ex2.approx.(f16|f16x2)", "r s", "sfu", "sm_75"),
    F("ex2.approx.ftz.(bf16|bf16x2)", "r s", "sfu", **_90),
    F("tanh.approx.f32", "r s", "sfu", "sm_75"),
    F("tanh.approx.(f16|f16x2)", "r s", "sfu", "sm_75"),
    F("tanh.approx.(bf16|bf16x2)", "r s", "sfu", **_90),
)

_I = "(u8|u16|u32|u64|s8|s16|s32|s64)"

CONVERT: tuple[Form, ...] = (
    F(f"cvt(.sat)?.{_I}.{_I}", "r s", "alu"),
    F("cvt.(rn|rz|rm|rp)(.ftz)?(.sat)?.(f16|f32|f64)." + _I, "r s", "fp"),
    F(f"cvt.(rni|rzi|rmi|rpi)(.ftz)?(.sat)?.{_I}.(f16|f32|f64)", "r s", "fp"),
    F("cvt.(rni|rzi|rmi|rpi)(.ftz)?(.sat)?.(f16.f16|f32.f32|f64.f64)", "r s", "fp"),
    F("cvt(.ftz)?(.sat)?.(f32.f16|f32.f32|f64.f16|f64.f32)", "r s", "fp"),
    F("cvt.(rn|rz|rm|rp)(.ftz)?(.sat)?.(f16.f32|f16.f64|f32.f64)", "r s", "fp"),
    F("cvt.(rn|rz)(.relu)?.(f16|bf16).f32", "r s", "fp", "sm_80"),
    F("cvt.(rn|rz)(.relu)?(.satfinite)?.(f16x2|bf16x2).f32", "r s s", "fp", "sm_80"),
    F("cvt.f32.bf16", "r s", "fp", "sm_80", (7, 1)),
    F("cvt.(rn|rz|rm|rp).bf16.(f16|f64|u8|u16|u32|u64|s8|s16|s32|s64|bf16)", "r s", "fp", **_90),
    F("cvt.(rni|rzi|rmi|rpi)(.sat)?.(u8|u16|u32|u64|s8|s16|s32|s64).bf16", "r s", "fp", **_90),
    F("cvt.(rn|rz|rm|rp).f16.bf16", "r s", "fp", **_90),
    F("cvt.f64.bf16", "r s", "fp", **_90),
    F("cvt.rna(.satfinite)?.tf32.f32", "r s", "fp", "sm_80"),
    F("cvt.(rn|rz)(.relu)?.tf32.f32", "r s", "fp", **_90),
    F("cvt.rn.satfinite(.relu)?.(e4m3x2|e5m2x2).f32", "r s s", "fp", **_90),
    F("cvt.rn.satfinite(.relu)?.(e4m3x2|e5m2x2).f16x2", "r s", "fp", **_90),
    F("cvt.rn(.relu)?.f16x2.(e4m3x2|e5m2x2)", "r s", "fp", **_90),
    F("cvt.pack.sat.(u16|s16).s32", "r s s", "alu", "sm_72"),
    F("cvt.pack.sat.(u8|s8|u4|s4|u2|s2).s32.b32", "r s s s", "alu", "sm_75"),
)
