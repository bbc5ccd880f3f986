"""What is timed: each work with its kernel, its peer, and the ratio that we want at least."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

import tilec.language as tl
from tilec.bench import interpreted, kernels
from tilec.bench.measure import Run
from tilec.bench.peers import STREAM_KINDS, c_stream, library

Array = np.ndarray[Any, Any]
Error = Callable[[], float]
INTERPRETER = "Triton interp."
GEMMS = ((512, 512, 512), (1024, 1024, 1024), (2048, 2048, 2048), (1000, 777, 333), (64, 4096, 4096),
         (4096, 4096, 16))  # fmt: skip


@dataclass(frozen=True)
class Prepared:
    """Two ways of one work; errors are the largest ones against float64, relative to the largest value.

    ``apart``: seconds of the other way, where it runs in a process of its own.
    """

    ours: Run
    theirs: Run | None
    error: Error | None = None
    peer_error: Error | None = None
    apart: Callable[[], float | None] | None = None


@dataclass(frozen=True)
class Work:
    """``amount``: operations or bytes of one call, in ``unit`` per second; ``group`` for a mean."""

    name: str
    peer: str
    target: float | None
    amount: float
    unit: str
    prepare: Callable[[], Prepared]
    group: str = ""


def works(quick: bool = False) -> list[Work]:
    """All works; ``quick``: small ones only."""
    found = [*_gemms(), *_attentions(), *_norms(), *_streams(quick), *_interpreted()]
    return [w for w in found if w.amount < 1e8 and w.peer != INTERPRETER] if quick else found


def _normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).standard_normal(shape, np.float32)


def _tiles(m: int, n: int, k: int) -> dict[str, Any]:
    """Tile sizes that a user would choose: operands near the second cache's size, whole blocks of rows."""
    parts = 4 if 256 < k < 384 else 2
    rows = min(516, -(-m // (12 * parts)) * 12) if m > 64 else m
    columns = -(-n // 32) * 16 if n <= 800 else 256
    return {"BM": rows, "BN": columns, "BK": k if k < 384 else 256}


def _grid(m: int, n: int, meta: Mapping[str, Any]) -> tuple[int, int]:
    return -(-m // meta["BM"]), -(-n // meta["BN"])


def _rows_error(found: Array, rows: Sequence[int], expected: Array) -> float:
    wide = found[rows].astype(np.float64)
    return float(np.abs(wide - expected).max() / np.abs(expected).max())


def _gemm(m: int, n: int, k: int) -> Prepared:
    a, b = _normal(m, k), _normal(k, n, seed=1)
    c, d = np.empty((m, n), np.float32), np.empty((m, n), np.float32)
    meta = _tiles(m, n, k)
    launch, rows = kernels.gemm[_grid(m, n, meta)], list(range(0, m, max(m // 16, 1)))
    expected = a[rows].astype(np.float64) @ b.astype(np.float64)
    return Prepared(
        lambda: launch(a, b, c, **meta), lambda: np.matmul(a, b, out=d),
        lambda: _rows_error(c, rows, expected), lambda: _rows_error(d, rows, expected),
    )  # fmt: skip


def _narrow_gemm(n: int, dtype: Any) -> Prepared:
    """bfloat16 or int8 beside numpy's float32 product of the same size."""
    whole = np.issubdtype(dtype, np.integer)
    a, b = ((20 * _normal(n, n, seed=s)).astype(dtype) if whole else _normal(n, n, seed=s).astype(dtype)
            for s in (0, 1))  # fmt: skip
    c = np.empty((n, n), np.int32 if whole else np.float32)
    x, y, z = a.astype(np.float32), b.astype(np.float32), np.empty((n, n), np.float32)
    launch, meta = kernels.gemm[_grid(n, n, _tiles(n, n, n))], _tiles(n, n, n)
    total, rows = tl.int32 if whole else tl.float32, list(range(0, n, n // 16))
    expected = a[rows].astype(np.float64) @ b.astype(np.float64)
    return Prepared(
        lambda: launch(a, b, c, total=total, **meta), lambda: np.matmul(x, y, out=z),
        lambda: _rows_error(c, rows, expected), lambda: _rows_error(z, rows, expected),
    )  # fmt: skip


def _gelu(n: int) -> Prepared:
    a, b, bias = _normal(n, n) / np.float32(n**0.5), _normal(n, n, seed=1), _normal(n)
    c, meta = np.empty((n, n), np.float32), _tiles(n, n, n)
    launch, torch = kernels.gemm_bias_gelu[_grid(n, n, meta)], library("torch")
    theirs = None
    if torch is not None:
        ta, tb, tbias, out = (torch.from_numpy(v) for v in (a, b, bias, np.empty_like(c)))

        def theirs() -> None:
            torch.addmm(tbias, ta, tb, out=out)
            torch.ops.aten.gelu.out(out, out=out)

    return Prepared(lambda: launch(a, b, bias, c, **meta), theirs)


def _gemms() -> Iterator[Work]:
    for m, n, k in GEMMS:
        yield Work(f"gemm f32 {m}x{n}x{k}", "numpy", 0.95, 2.0 * m * n * k, "GFLOP/s",
                   lambda m=m, n=n, k=k: _gemm(m, n, k), "gemm f32")  # type: ignore[misc]  # fmt: skip
    n, work = 1024, 2.0 * 1024**3
    bf16 = ml_dtypes.bfloat16
    yield Work("gemm bf16 1024", "numpy f32", 0.9, work, "GFLOP/s", lambda: _narrow_gemm(n, bf16))
    yield Work("gemm int8 1024", "numpy f32", 1.3, work, "GFLOP/s", lambda: _narrow_gemm(n, np.int8))
    yield Work("gemm+bias+gelu f32 1024", "torch", 1.1, work, "GFLOP/s", lambda: _gelu(n))


def _attention(s: int, d: int, causal: bool) -> Prepared:
    q, k, v = (_normal(8, s, d, seed=i) for i in range(3))
    o = np.empty_like(q)
    # Tiles of scores and sums stay in the first cache.
    meta: dict[str, Any] = {"causal": causal, "D": d, "BM": 32, "BN": 64}
    launch, torch = kernels.attention[(-(-s // meta["BM"]), 8)], library("torch")
    theirs: Run | None = None
    if torch is not None:
        tq, tk, tv = (torch.from_numpy(x)[None] for x in (q, k, v))
        attend = torch.nn.functional.scaled_dot_product_attention
        theirs = lambda: attend(tq, tk, tv, is_causal=causal)  # noqa: E731
    return Prepared(lambda: launch(q, k, v, o, **meta), theirs)


def _attentions() -> Iterator[Work]:
    for causal in (False, True):
        for d in (64, 128):
            for s in (512, 1024, 2048, 4096):
                name = f"attention f32 8x{s}x{d}" + " causal" * causal
                flops = 4.0 * 8 * s * s * d / (2 if causal else 1)
                yield Work(name, "torch", 1.3 if causal else 1.05, flops, "GFLOP/s",
                           lambda s=s, d=d, causal=causal: _attention(s, d, causal))  # type: ignore[misc]  # fmt: skip


def _norm(kind: str, n: int, peer: str) -> Prepared:
    x, w, b = _normal(n, n), 1 + _normal(n) / 8, _normal(n, seed=1)
    y, z = np.zeros_like(x), np.zeros_like(x)
    args = {"softmax": (x, y), "layer norm": (x, w, b, y), "RMS norm": (x, w, y)}[kind]
    table = {"softmax": kernels.softmax, "layer norm": kernels.layer_norm, "RMS norm": kernels.rms_norm}
    launch = table[kind][(n,)]
    arrays = (x, w, b, z)
    peers = {"STREAM copy": lambda: _c_copy(x, z), "torch": lambda: _torch_norm(kind, arrays),
             "numba": lambda: _numba_norm(kind, arrays)}  # fmt: skip
    theirs = peers[peer]()
    return Prepared(lambda: launch(*args), theirs)


def _c_copy(x: Array, z: Array) -> Run | None:
    loops = c_stream()
    if loops is None:
        return None
    return _c_loop(loops["copy"], x, x, z)


def _c_loop(loop: Any, a: Array, b: Array, c: Array) -> Run:
    """A call of a C loop; it keeps the arrays alive, of which C sees addresses only."""
    arrays = (a, b, c)
    at = [x.ctypes.data for x in arrays]
    return lambda: loop(*at, arrays[0].nbytes // 8)


def _torch_norm(kind: str, arrays: Sequence[Array]) -> Run | None:
    torch = library("torch")
    if torch is None:
        return None
    x, w, b, z = (torch.from_numpy(a) for a in arrays)
    size, eps = (x.shape[1],), kernels.EPS
    if kind == "softmax":
        return lambda: torch.softmax(x, 1, out=z)
    if kind == "layer norm":
        mean, scale = torch.empty(len(x), 1), torch.empty(len(x), 1)
        norm = torch.ops.aten.native_layer_norm.out
        return lambda: norm(x, size, w, b, eps, out0=z, out1=mean, out2=scale)
    return lambda: torch.nn.functional.rms_norm(x, size, w, eps)


def _numba_norm(kind: str, arrays: Sequence[Array]) -> Run | None:
    if library("numba") is None:
        return None
    from tilec.bench import numba_loops

    x, w, b, z = arrays
    args = {"softmax": (x, z), "layer norm": (x, w, b, z), "RMS norm": (x, w, z)}[kind]
    loops = getattr(numba_loops, kind.replace(" ", "_").lower())
    return lambda: loops(*args)


def _norms() -> Iterator[Work]:
    n = 4096
    for kind in ("softmax", "layer norm", "RMS norm"):
        for peer, target in (("torch", 1.0), ("numba", None), ("STREAM copy", 0.9)):
            yield Work(f"{kind} f32 {n}x{n}", peer, target, 8.0 * n * n, "GB/s",
                       lambda kind=kind, peer=peer: _norm(kind, n, peer))  # type: ignore[misc]  # fmt: skip


def _stream(kind: str, n: int) -> Prepared:
    a, b, c, d = (np.full(n, i, np.float64) for i in range(4))
    tile = 16384
    launch, loops = kernels.stream[(-(-n // tile),)], c_stream()
    theirs = None if loops is None else _c_loop(loops[kind], a, b, d)
    return Prepared(lambda: launch(a, b, c, kind=kind, N=tile), theirs)


def _streams(quick: bool) -> Iterator[Work]:
    n = 1 << 20 if quick else 1 << 24
    for kind in STREAM_KINDS:
        arrays = 2 if kind in ("copy", "scale") else 3
        yield Work(f"STREAM {kind} f64 {n}", "C OpenMP", 0.97, 8.0 * n * arrays, "GB/s",
                   lambda kind=kind: _stream(kind, n))  # type: ignore[misc]  # fmt: skip


def _interpreted() -> Iterator[Work]:
    """Ours beside the interpreter of Triton, which is how its kernels run without a GPU."""
    for name, case in interpreted.CASES.items():
        yield Work(name, INTERPRETER, 500.0, case.amount, case.unit,
                   lambda name=name, case=case: Prepared(  # type: ignore[misc]
                       case.make(None), None, apart=lambda: interpreted.seconds(name)))  # fmt: skip
