"""Cross entropy of logits and target classes: the loss of each row, and the gradient of the logits.

Rows are longer than a tile: the first pass keeps a running maximum and sum, as flash
attention does, the second writes softmax minus the target. A row whose target is outside
of the classes (as -100) has loss and gradient 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from _check import FUNCTION, TINY, U32, Case, rounding, run_all

import tilec
import tilec.language as tl

LOWEST = -1e30


@tilec.kernel
def cross_entropy(LOGITS: tl.Tensor, TARGET: tl.Tensor, LOSS: tl.Tensor, GRAD: tl.Tensor,
                  BN: tl.constexpr[int] = 1024):  # fmt: skip
    row, classes = tl.program_id(0), LOGITS.shape[1]
    target = tl.gather(TARGET, row)
    top, total = tl.full((1,), LOWEST, tl.float32), tl.zeros((1,), tl.float32)
    for n in tl.range(tl.cdiv(classes, BN)):
        x = tl.load(LOGITS, (row, n), (1, BN), pad=-float("inf")).to(tl.float32)
        new_top = tl.maximum(top, tl.max(x, 1))
        total = total * tl.exp(top - new_top) + tl.sum(tl.exp(x - new_top[:, None]), 1)
        top = new_top
    counts = (target >= 0) & (target < classes)
    chosen = tl.gather(LOGITS, (row, target)).to(tl.float32)
    tl.store(LOSS, (row,), tl.where(counts, tl.log(total) + top - chosen, 0.0))
    for n in tl.range(tl.cdiv(classes, BN)):
        x = tl.load(LOGITS, (row, n), (1, BN), pad=-float("inf")).to(tl.float32)
        p = tl.exp(x - top[:, None]) / total[:, None]
        hit = (n * BN + tl.arange(0, BN) == target)[None, :]
        grad = tl.where(counts, p - tl.where(hit, 1.0, 0.0), 0.0)
        tl.store(GRAD, (row, n), grad.to(GRAD.dtype))


SHAPES = ({"m": 512, "n": 5000}, {"m": 64, "n": 32000})


def loss_and_grad(x: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    counts = (target >= 0) & (target < x.shape[1])
    rows, safe = np.arange(len(x)), np.where(counts, target, 0)
    shifted = x - x.max(axis=1, keepdims=True)
    total = np.exp(shifted).sum(axis=1, keepdims=True)
    grad = np.exp(shifted) / total
    grad[rows, safe] -= 1
    loss = np.log(total[:, 0]) - shifted[rows, safe]
    return np.where(counts, loss, 0), np.where(counts[:, None], grad, 0)


def case(m: int, n: int, dtype: Any = np.float32, **meta: Any) -> Case:
    rng = np.random.default_rng([m, n])
    x = (3 * rng.standard_normal((m, n))).astype(dtype)
    target = rng.integers(0, n, m).astype(np.int32)
    target[1::7] = -100
    loss, grad = np.empty(m, np.float32), np.empty_like(x)
    wide = x.astype(np.float64)
    expected, expected_grad = loss_and_grad(wide, target)

    shifted = wide - wide.max(axis=1, keepdims=True)
    p = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
    spread = -shifted.min(axis=1)
    # exp of a difference: its rounding becomes a relative error; the maximum rises block by block.
    term = 2.5 * U32 * np.abs(shifted) + FUNCTION
    total = (p * term).sum(axis=1) + U32 * (n + 2.5 * spread) + FUNCTION
    bound = total + 2 * FUNCTION * np.abs(np.log(np.exp(shifted).sum(axis=1)))
    bound += 3 * U32 * (np.abs(wide).max(axis=1) + spread)
    grad_bound = p * (term + total[:, None] + 2 * U32) + U32 * np.abs(expected_grad) + TINY

    def baseline() -> np.ndarray:
        return loss_and_grad(x, target)[0]

    grad_bound += rounding(grad, expected_grad)
    return Case(
        f"cross_entropy {m}x{n}", cross_entropy, lambda meta: (m,), (x, target, loss, grad), 2,
        expected, bound, baseline, meta, others={3: (expected_grad, grad_bound)},
    )  # fmt: skip


def main(**options: Any) -> int:
    return run_all((case(**shape) for shape in SHAPES), **options)


if __name__ == "__main__":
    raise SystemExit(main())
