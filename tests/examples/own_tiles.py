"""Every kernel of the examples as it is compiled: types of its arguments, and the constants that differ
from its defaults. Tests assemble them; `.ci/evidence.py` tells what came out.
"""

from __future__ import annotations

from typing import Any

Compiled = tuple[str, str, str, dict[str, Any]]  # example, kernel, signature, constants

FIRST: tuple[Compiled, ...] = (
    ("vector_add", "vector_add", "f32[1],f32[1],f32[1]", {}),
    ("softmax", "softmax", "f32[2],f32[2]", {}),
    ("layer_norm", "layer_norm", "f32[2],f32[1],f32[1],f32[2]", {}),
    ("gemm", "gemm", "f16[2],f16[2],f16[2]", {}),
    ("gemm", "gemm_bias_gelu", "f16[2],f16[2],f16[1],f16[2]", {}),
    ("persistent_gemm", "persistent_gemm", "f16[2],f16[2],f16[2]", {}),
    ("embedding", "embedding", "f16[2],i32[1],f16[2]", {}),
    *(
        ("attention", "attention", "f16[4],f16[4],f16[4],f16[4]", {"D": d, "causal": c})
        for d in (64, 128)
        for c in (False, True)
    ),
)

PAGED = "f16[4],f16[4],f16[4],i32[2],i32[1],f32[5],f32[4],f32[4]"
GRADIENT = "f16[4],f16[4],f16[4],f16[4],f32[3],f32[3],f16[4]"
HEADED = "f16[4],f16[4],f16[4],f16[4]"
FP8, HALF = "e4m3[2],e4m3[2],f32[1],f32[1],bf16[2]", "f16[2],f16[2],f16[2]"
SUITE: tuple[Compiled, ...] = (
    ("gemm", "gemm", "f16[2, contiguous=0],f16[2, contiguous=0],f16[2]", {}),
    ("gemm_types", "gemm_scaled", FP8, {"BN": 256, "BK": 128}),
    ("gemm_types", "gemm_scaled", FP8.replace("e4m3", "e5m2"), {"BK": 128}),
    ("gemm_types", "gemm_scaled", FP8.replace("e4m3", "i8"), {"BN": 256, "BK": 128}),
    ("gemm_types", "gemm_scaled", FP8.replace("e4m3", "f32"), {"BN": 256, "BK": 32}),
    ("gemm_types", "gemm_scaled", FP8.replace("e4m3", "bf16"), {"BN": 256}),
    ("gemm_split_k", "gemm_shares", "f16[2],f16[2],f32[3]", {}),
    ("gemm_split_k", "add_shares", "f32[3],f16[2]", {}),
    ("gemm_split_k", "gemm_atomic", "f16[2],f16[2],f32[2]", {}),
    ("stream_k", "stream_k", "f16[2],f16[2],f32[2]", {}),
    ("batched_gemm", "batched_gemm", "f16[3],f16[3],f16[3]", {}),
    ("swiglu", "swiglu", f"{HALF},f16[2]", {}),
    ("grouped_gemm", "grouped_gemm", "f16[2],f16[3],i32[1],i32[1],i32[1],f16[2]", {}),
    ("grouped_gemm", "grouped_weights", "f16[2],f16[2],i32[1],f16[3]", {}),
    ("gemv", "gemv", "f16[2],f16[1],f16[1]", {}),
    ("gemv", "flat_gemm", HALF, {}),
    *(
        ("attention_window", "attention_window", f"{HEADED},f32[3],i32", {"D": d, "cap": cap})
        for d in (64, 128)
        for cap in (0.0, 30.0)
    ),
    *(
        ("attention_varlen", "attention_varlen", "f16[3],f16[3],f16[3],i32[1],i32[1],f16[3]", {"D": d})
        for d in (64, 128)
    ),
    ("attention", "attention", HEADED.replace("f16", "bf16"), {"D": 256, "causal": True, "BN": 64}),
    *(
        ("attention_fp8", "attention_fp8", "e4m3[4],e4m3[4],e4m3[4],bf16[4],f32,f32", {"D": d})
        for d in (64, 128)
    ),
    ("decode_attention", "decode_shares", PAGED, {}),
    ("decode_attention", "decode_fixed", f"{PAGED},f32", {}),
    ("decode_attention", "combine", "f32[5],f32[4],f32[4],f16[4]", {}),
    *(
        (
            "attention_backward",
            kernel,
            GRADIENT + more,
            {"D": d, "causal": c} | ({"BN": 128} if (kernel, d) == ("attention_dkdv", 64) else {}),
        )
        for kernel, more in (("attention_dkdv", ",f16[4]"), ("attention_dq", ""))
        for d in (64, 128)
        for c in (False, True)
    ),
    ("attention_backward", "row_dots", "f16[4],f16[4],f32[3]", {}),
    ("rms_norm", "rms_norm", "f16[2],f16[1],f16[2],f32[1]", {"BN": 4096}),
    ("rms_norm", "rms_norm_backward", "f16[2],f16[1],f32[1],f16[2],f16[2],f32[2]", {"BN": 4096}),
    ("rms_norm", "add_rows", "f32[2],f32[1]", {}),
    (
        "layer_norm_backward",
        "layer_norm_backward",
        "f16[2],f16[1],f32[1],f32[1],f16[2],f16[2],f32[2],f32[2]",
        {"BN": 4096},
    ),
    ("cross_entropy", "cross_entropy", "f16[2],i32[1],f32[1],f16[2]", {}),
    ("rotary", "rotary", "f16[4],f32[2],f32[2],f16[4]", {}),
)
OWN_TILES = (*FIRST, *SUITE)
