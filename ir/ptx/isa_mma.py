"""Rows of the instruction table: matrix products of one warp, mma.sync and wmma."""

from __future__ import annotations

from typing import Any

from tilec.ir.ptx.forms import Form

F = Form
_WARP: dict[str, Any] = {"aligned": True, "version": (7, 0)}
_80: dict[str, Any] = {"target": "sm_80", **_WARP}
_8 = "(e4m3|e5m2)"
_86 = "(e4m3|e5m2|e3m2|e2m3|e2m1)"
_ROUND = "(.rn|.rz|.rm|.rp)?"
_LAYOUT = "(row|col)"
_PLACE = "(.global|.shared|.shared::cta)?"
_16 = "(m16n16k16|m8n32k16|m32n8k16)"

MMA: tuple[Form, ...] = (
    F("mma.sync.aligned.(m16n8k8|m16n8k16).row.col.(f32|f16).f16.f16.(f32|f16)", "V v v V", "tensor", **_80),
    F("mma.sync.aligned.(m16n8k8|m16n8k16).row.col.f32.bf16.bf16.f32", "V v v V", "tensor", **_80),
    F("mma.sync.aligned.(m16n8k4|m16n8k8).row.col.f32.tf32.tf32.f32", "V v v V", "tensor", **_80),
    F(f"mma.sync.aligned.m8n8k4.row.col{_ROUND}.f64.f64.f64.f64{_ROUND}", "V v v V", "tensor", **_80),
    F(f"mma.sync.aligned.(m16n8k4|m16n8k8|m16n8k16).row.col{_ROUND}.f64.f64.f64.f64{_ROUND}", "V v v V",
      "tensor", "sm_90", (7, 8), aligned=True),
    F("mma.sync.aligned.(m8n8k16|m16n8k16|m16n8k32).row.col(.satfinite)?.s32.(s8|u8).(s8|u8).s32", "V v v V",
      "tensor", **_80),
    F("mma.sync.aligned.(m8n8k32|m16n8k32|m16n8k64).row.col(.satfinite)?.s32.(s4|u4).(s4|u4).s32", "V v v V",
      "tensor", **_80),
    F("mma.sync.aligned.(m8n8k128|m16n8k128|m16n8k256).row.col.s32.b1.b1.s32.(xor|and).popc", "V v v V",
      "tensor", **_80),
    F(f"mma.sync.aligned.m16n8k32.row.col.f32.{_8}.{_8}.f32", "V v v V", "tensor", "sm_89", (8, 4),
      aligned=True),
    F(f"mma.sync.aligned.m16n8k32.row.col.f16.{_8}.{_8}.f16", "V v v V", "tensor", "sm_89", (8, 7),
      aligned=True),
    F(f"mma.sync.aligned.m16n8k16.row.col.(f32|f16).{_8}.{_8}.(f32|f16)", "V v v V", "tensor", "sm_89",
      (8, 7), aligned=True),
    F(f"mma.sync.aligned.m16n8k32.row.col.kind::f8f6f4.(f32|f16).{_86}.{_86}.(f32|f16)", "V v v V", "tensor",
      "sm_120f", (8, 7), aligned=True),
    F("mma.sync.aligned.m16n8k64.row.col.(kind::mxf4.block_scale(.scale_vec::2X)?.f32.e2m1.e2m1.f32.ue8m0"
      "|kind::mxf4nvf4.block_scale.(scale_vec::2X.f32.e2m1.e2m1.f32.ue8m0|scale_vec::4X.f32.e2m1.e2m1.f32"
      ".(ue8m0|ue4m3)))", "V v v V v V v V", "tensor", "sm_120f", (8, 7), aligned=True),
    F(f"mma.sync.aligned.m16n8k32.row.col.kind::mxf8f6f4.block_scale(.scale_vec::1X)?.f32.{_86}.{_86}.f32.ue8m0",
      "V v v V v V v V", "tensor", "sm_120f", (8, 7), aligned=True),
)  # fmt: skip


def _matrix(operation: str, shape: str, types: str, layout: str = _LAYOUT) -> str:
    """wmma.load and store name shape, layout and space in either order."""
    orders = f"({layout}.{shape}{_PLACE}|{shape}{_PLACE}.{layout})"
    return f"wmma.{operation}.sync.aligned.{orders}.{types}"


def _product(shape: str, types: str, layouts: str = f"{_LAYOUT}.{_LAYOUT}", first: str = "mma") -> str:
    return f"wmma.{first}.sync.aligned.({layouts}.{shape}|{shape}.{layouts}).{types}"


def _moves(shape: str, inputs: str, results: str, target: str, layouts: tuple[str, str]) -> tuple[Form, ...]:
    """The loads and the store of one family of shapes and types."""
    needs: dict[str, Any] = {"target": target, **_WARP}
    moves = (("load.a", inputs, layouts[0]), ("load.b", inputs, layouts[1]), ("load.c", results, _LAYOUT))
    loads = [F(_matrix(op, shape, types, at), "V a s?", "lsu", **needs) for op, types, at in moves]
    return (*loads, F(_matrix("store.d", shape, results), "a V s?", "lsu", **needs))


_ANY = (_LAYOUT, _LAYOUT)
_V = "V V V V"
WMMA: tuple[Form, ...] = (
    *_moves(_16, "f16", "(f16|f32)", "sm_70", _ANY),
    *_moves(_16, "(s8|u8)", "s32", "sm_72", _ANY),
    *_moves(_16, "bf16", "f32", "sm_80", _ANY),
    *_moves("m16n16k8", "tf32", "f32", "sm_80", _ANY),
    *_moves("m8n8k4", "f64", "f64", "sm_80", _ANY),
    *_moves("m8n8k32", "(s4|u4)", "s32", "sm_75", ("row", "col")),
    *_moves("m8n8k128", "b1", "s32", "sm_75", ("row", "col")),
    F(_product(_16, "(f16|f32).(f16|f32)"), _V, "tensor", "sm_70", **_WARP),
    F(_product(_16, "s32.(s8.s8|u8.u8).s32(.satfinite)?"), _V, "tensor", "sm_72", **_WARP),
    F(_product(_16, "f32.bf16.bf16.f32"), _V, "tensor", **_80),
    F(_product("m16n16k8", "f32.tf32.tf32.f32"), _V, "tensor", **_80),
    F(_product(f"m8n8k4{_ROUND}", "f64.f64.f64.f64"), _V, "tensor", **_80),
    F(_product("m8n8k32", "s32.(s4.s4|u4.u4).s32(.satfinite)?", "row.col"), _V, "tensor", "sm_75", **_WARP),
    F(_product("m8n8k128", "s32.b1.b1.s32", "row.col", "mma.xor.popc"), _V, "tensor", "sm_75", **_WARP),
    F(_product("m8n8k128", "s32.b1.b1.s32", "row.col", "mma.and.popc"), _V, "tensor", "sm_80",
      (7, 1), aligned=True),
)  # fmt: skip
