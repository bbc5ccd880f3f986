"""Softmax and norms as one writes them for numba: loops over rows in parallel.

Imported only where numba is installed.
"""

# numba compiles these functions; mypy knows neither it nor their arguments.
# mypy: ignore-errors

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

EPS = np.float32(1e-5)


@njit(parallel=True, fastmath=True)
def softmax(x, y):
    for i in prange(x.shape[0]):
        top = np.float32(-1e30)
        for j in range(x.shape[1]):
            top = max(top, x[i, j])
        total = np.float32(0)
        for j in range(x.shape[1]):
            y[i, j] = math.exp(x[i, j] - top)
            total += y[i, j]
        for j in range(x.shape[1]):
            y[i, j] /= total


@njit(parallel=True, fastmath=True)
def layer_norm(x, w, b, y):
    n = np.float32(x.shape[1])
    for i in prange(x.shape[0]):
        total = np.float32(0)
        for j in range(x.shape[1]):
            total += x[i, j]
        mean, squares = total / n, np.float32(0)
        for j in range(x.shape[1]):
            squares += (x[i, j] - mean) ** 2
        scale = np.float32(1) / math.sqrt(squares / n + EPS)
        for j in range(x.shape[1]):
            y[i, j] = (x[i, j] - mean) * scale * w[j] + b[j]


@njit(parallel=True, fastmath=True)
def rms_norm(x, w, y):
    n = np.float32(x.shape[1])
    for i in prange(x.shape[0]):
        squares = np.float32(0)
        for j in range(x.shape[1]):
            squares += x[i, j] * x[i, j]
        scale = np.float32(1) / math.sqrt(squares / n + EPS)
        for j in range(x.shape[1]):
            y[i, j] = x[i, j] * scale * w[j]
