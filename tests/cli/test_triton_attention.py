"""Triton's attention kernels of the evidence page compute what their names say. See `test_triton_peers`."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

pytest.importorskip("triton")
pytestmark = pytest.mark.slow

from triton_kit import Array, Checks, numbers, run, starting, wide  # noqa: E402

CHECKS = Checks()
HEADS, QUERIES, KEYS = 2, 48, 80
SHIFT = KEYS - QUERIES


def masked(causal: bool, window: int = 10**6, queries: int = QUERIES, keys: int = KEYS) -> Array:
    last = np.arange(queries)[:, None] + keys - queries if causal else np.full((queries, 1), keys)
    columns = np.arange(keys)[None, :]
    return (columns <= last) & (columns > last - window)


def weights(scores: Array, seen: Array) -> Array:
    e = np.where(seen, np.exp(scores), 0)
    return e / e.sum(-1, keepdims=True)


def inputs(
    D: int, dtype: Any = np.float16, shared: int = HEADS
) -> tuple[dict[str, Any], Array, Array, Array]:
    """``shared``: heads of K and V."""
    q, k, v = numbers(HEADS, KEYS, D), numbers(shared, KEYS, D, seed=1), numbers(shared, KEYS, D, seed=2)
    args = {
        "Q": q.astype(dtype),
        "K": k.astype(dtype),
        "V": v.astype(dtype),
        "O": np.zeros((HEADS, KEYS, D), dtype),
    }
    args |= {"head": KEYS * D, "row": D, "queries": QUERIES, "keys": KEYS}
    each = HEADS // shared
    return args, wide(q[:, :QUERIES]), wide(k).repeat(each, 0), wide(v).repeat(each, 0)


def padded(out: Array, like: Array) -> Array:
    """Rows beyond the queries stay zero."""
    whole = np.zeros(like.shape)
    whole[:, : out.shape[1]] = out
    return whole


@CHECKS.of("attention", "attention causal", "attention 64", "attention 64 causal", *starting("attention"))
def attention(title: str) -> None:
    D = 256 if "256" in title else 64 if "64" in title.split() else 128
    args, q, k, v = inputs(D, ml_dtypes.bfloat16 if "bf16" in title else np.float16)
    causal = "causal" in title
    # This kernel counts queries from the first key on.
    seen = masked(causal, queries=KEYS)[:QUERIES]
    out = weights(q @ k.swapaxes(1, 2) / D**0.5, seen) @ v
    near = 2e-2 if "bf16" in title else 4e-3
    run(title, (1, HEADS), args, near, {"O": padded(out, args["O"])}, BM=64, BN=32)


@CHECKS.of(*starting("attention_window"))
def window(title: str) -> None:
    D, cap = int(title.split("D=")[1].split()[0]), float(title.split("cap=")[1])
    args, q, k, v = inputs(D, shared=1)
    s = q @ k.swapaxes(1, 2) / D**0.5
    s = cap * np.tanh(s / cap) if cap else s
    seen = masked(True, 16)
    out = weights(s, seen) @ v
    lse = np.log(np.where(seen, np.exp(s), 0).sum(-1))
    args |= {"LSE": np.zeros((HEADS, QUERIES), np.float32), "window": 16}
    expect = {"O": padded(out, args["O"]), "LSE": lse}
    run(title, (1, HEADS), args, 4e-3, expect, BM=64, BN=32, GROUP=2)


@CHECKS.of(*starting("attention_varlen"))
def varlen(title: str) -> None:
    D = int(title.split("D=")[1])
    starts, ends = np.array([0, 16, 80], np.int32), np.array([0, 48, 112], np.int32)
    q, k, v = numbers(80, HEADS, D), numbers(112, 1, D, seed=1), numbers(112, 1, D, seed=2)
    wide_k, wide_v = (np.ascontiguousarray(np.broadcast_to(x, (112, HEADS, D))) for x in (k, v))
    out = np.zeros((80, HEADS, D))
    for i in range(2):
        rows, keys = slice(*starts[i : i + 2]), slice(*ends[i : i + 2])
        a, b, c = (wide(x).swapaxes(0, 1) for x in (q[rows], wide_k[keys], wide_v[keys]))
        seen = masked(True, queries=a.shape[1], keys=b.shape[1])
        s = np.where(seen, a @ b.swapaxes(1, 2) / D**0.5, -np.inf)
        out[rows] = (weights(s, seen) @ c).swapaxes(0, 1)
    args = {"Q": q, "K": wide_k, "V": wide_v, "O": np.zeros(q.shape, np.float16), "Q_START": starts,
            "K_START": ends, "head": D, "row": HEADS * D}  # fmt: skip
    run(title, (1, HEADS, 2), args, 4e-3, {"O": out}, BM=64, BN=32, GROUP=2)


@CHECKS.of(*starting("attention_fp8"))
def fp8(title: str) -> None:
    D = int(title.split("D=")[1])
    args, q, k, v = inputs(D, ml_dtypes.float8_e4m3fn)
    vt = np.ascontiguousarray(args["V"].swapaxes(1, 2))
    args |= {"VT": vt, "scale": 0.5, "v_scale": 2.0, "v_head": D * KEYS, "v_row": KEYS}
    args["O"] = np.zeros((HEADS, KEYS, D), ml_dtypes.bfloat16)
    out = 2.0 * weights(0.5 * q @ k.swapaxes(1, 2) / D**0.5, masked(False)) @ v
    run(title, (1, HEADS), args, 6e-2, {"O": padded(out, args["O"])}, BM=64, BN=32)


def paged(fixed: bool) -> tuple[dict[str, Any], dict[str, Array], Array]:
    """Two sequences of 40 and 16 keys in pages of 16, in two shares; and the whole result."""
    D, heads, rows = 32, 16, 64
    q = numbers(2, heads, rows, D)
    k, v = numbers(5, heads, 16, D, seed=1), numbers(5, heads, 16, D, seed=2)
    table, length = np.zeros((2, 16), np.int32), np.array([40, 16], np.int32)
    table[0, :3], table[1, :1] = (4, 0, 2), (3,)
    shares, whole = [], []
    for b, pages in enumerate(((4, 0, 2), (3,))):
        each = -(-len(pages) // 2)
        keys = np.concatenate([k[p] for p in pages], 1)[:, : length[b]]
        values = np.concatenate([v[p] for p in pages], 1)[:, : length[b]]
        s = wide(q[b]) @ wide(keys).swapaxes(1, 2) / D**0.5 * 1.4426950408889634
        whole.append(weights(s / 1.4426950408889634, np.ones(1, bool)) @ wide(values))
        for part in (slice(0, each * 16), slice(each * 16, None)):
            some, x = s[..., part] - (1.0 if fixed else 0.0), wide(values)[:, part]
            top = some.max(-1, initial=-1e30)
            p = np.exp2(some - (0 if fixed else top[..., None]))
            shares.append((p @ x, top, p.sum(-1)))
    outs = [
        np.stack([s[i] for s in shares]).reshape(2, 2, *np.shape(shares[0][i])).swapaxes(1, 2)
        for i in range(3)
    ]
    args = {
        "Q": q,
        "K": k,
        "V": v,
        "TABLE": table,
        "LENGTH": length,
        "heads": heads,
        "table": 16,
        "exponent": 1.0,
    }
    args |= {n: np.zeros(x.shape, np.float32) for n, x in zip(("O", "TOP", "TOTAL"), outs, strict=True)}
    return args, dict(zip(("O", "TOP", "TOTAL"), outs, strict=True)), np.stack(whole)


@CHECKS.of("decode_shares f16", "decode_fixed f16")
def decode(title: str) -> None:
    args, expect, _ = paged(title.startswith("decode_fixed"))
    run(title, (2, 16, 2), args, 4e-3, expect, D=32, PAGE=16)


@CHECKS.of("combine f32")
def combine(title: str) -> None:
    _, parts, whole = paged(False)
    args = {n: np.ascontiguousarray(x, np.float32) for n, x in parts.items()}
    args |= {"OUT": np.zeros((2, 16, 8, 32), np.float16), "heads": 16, "shares": 2}
    run(title, (16, 2), args, 2e-3, {"OUT": whole[:, :, :8]}, D=32)


@CHECKS.of(*starting("row_dots", "attention_dkdv", "attention_dq"))
def gradients(title: str) -> None:
    D = 128 if title.startswith("row") else int(title.split("D=")[1].split()[0])
    causal = "causal=True" in title
    args, q, k, v = inputs(D)
    do_whole = numbers(HEADS, KEYS, D, seed=3)
    do, s = wide(do_whole[:, :QUERIES]), q @ k.swapaxes(1, 2) / D**0.5
    seen = masked(causal)
    p = weights(s, seen)
    delta = (do * (p @ v)).sum(-1)
    ds = p * (do @ v.swapaxes(1, 2) - delta[..., None])
    lse = np.log(np.where(seen, np.exp(s), 0).sum(-1))
    args |= {"DO": do_whole, "LSE": lse.astype(np.float32), "DELTA": delta.astype(np.float32)}
    args |= {n: np.zeros((HEADS, KEYS, D), np.float16) for n in ("DQ", "DK", "DV")}
    if title.startswith("row"):
        args |= {"O": numbers(HEADS, KEYS, D, seed=4), "DELTA": np.zeros((HEADS, QUERIES), np.float32)}
        dots = (wide(args["O"][:, :QUERIES]) * do).sum(-1)
        run(title, (1, HEADS), args, 1e-5, {"DELTA": dots})
    elif "dkdv" in title:
        expect = {"DK": ds.swapaxes(1, 2) @ q / D**0.5, "DV": p.swapaxes(1, 2) @ do}
        run(title, (2, HEADS), args, 6e-3, expect, BM=32, BN=64)
    else:
        run(title, (1, HEADS), args, 6e-3, {"DQ": padded(ds @ k / D**0.5, args["DQ"])}, BM=64, BN=32)


@pytest.mark.parametrize("title", CHECKS)
def test_a_peer_computes_what_its_name_says(title: str) -> None:
    CHECKS[title](title)


def test_every_peer_is_checked() -> None:
    from test_triton_peers import CHECKS as others

    from tilec.bench_compile.triton_examples import EXAMPLES
    from tilec.bench_compile.triton_kernels import BESIDE_TRITON

    assert set(EXAMPLES) | set(BESIDE_TRITON) == set(CHECKS) | set(others)
