"""What the CPU backend costs (memory, launches, compilation), and that threads do not change results."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tilec.bench import kernels
from tilec.bench.works import works
from tilec.runtime.threads import scratch

Array = np.ndarray[Any, Any]
RAGGED = {"BM": 60, "BN": 64, "BK": 48}


def normal(*shape: int) -> Array:
    return np.random.default_rng(shape).standard_normal(shape, np.float32)


def gemm(out: Array, threads: int) -> None:
    a, b = normal(250, 130), normal(130, 200)
    kernels.gemm[(5, 4)](a, b, out, num_threads=threads, **RAGGED)


def gelu(out: Array, threads: int) -> None:
    a, b = normal(250, 130), normal(130, 200)
    kernels.gemm_bias_gelu[(5, 4)](a, b, normal(200), out, num_threads=threads, **RAGGED)


def attention(out: Array, threads: int) -> None:
    q, k, v = normal(5, 250, 40), normal(5, 250, 40), normal(5, 250, 40)
    whole = out.reshape(5, 250, 40)
    kernels.attention[(4, 5)](q, k, v, whole, causal=True, D=64, BM=64, BN=64, num_threads=threads)


def softmax(out: Array, threads: int) -> None:
    kernels.softmax[(250,)](normal(250, 200), out, BN=256, num_threads=threads)


@pytest.mark.parametrize("run", [gemm, gelu, attention, softmax])
def test_results_have_the_same_bits_for_any_number_of_threads(run: Callable[[Array, int], None]) -> None:
    outs = [np.full((250, 200), np.nan, np.float32) for _ in range(5)]
    for out, threads in zip(outs, (1, 2, 2, 3, 7), strict=True):
        run(out, threads)
    assert np.isfinite(outs[0]).all()
    for out in outs[1:]:
        np.testing.assert_array_equal(out.view(np.int32), outs[0].view(np.int32))


@pytest.mark.parametrize("name", ["gemm f32 512x512x512", "gemm f32 1000x777x333", "gemm f32 4096x4096x16"])
def test_errors_of_products_are_no_larger_than_numpys(name: str) -> None:
    [work] = [w for w in works() if w.name == name]
    found = work.prepare()
    assert found.theirs is not None and found.error is not None and found.peer_error is not None
    found.ours()
    found.theirs()
    # Which sums come out worst is chance: they are sums of the same lengths at best.
    assert 0 < found.error() <= 1.2 * found.peer_error()


@pytest.mark.parametrize("causal", [False, True])
def test_errors_of_attention_are_no_larger_than_torchs(causal: bool) -> None:
    torch = pytest.importorskip("torch")
    q, k, v = (normal(2, 384, 64) + i for i in range(3))
    ours = np.empty_like(q)
    kernels.attention[(3, 2)](q, k, v, ours, causal=causal)
    attend = torch.nn.functional.scaled_dot_product_attention
    theirs = attend(*(torch.from_numpy(x)[None] for x in (q, k, v)), is_causal=causal)[0].numpy()
    wide = [torch.from_numpy(x.astype(np.float64))[None] for x in (q, k, v)]
    exact = attend(*wide, is_causal=causal)[0].numpy()
    error, peer = (float(np.abs(x - exact).max()) for x in (ours, theirs))
    assert 0 < error <= 1.2 * peer


MEMORY = """
import ctypes, json, re, sys
import numpy as np
from tilec.bench import kernels
from tilec.runtime import cpu

def status(name):
    return 1024 * int(re.search(name + r":\\s+(\\d+)", open("/proc/self/status").read())[1])

def run(n):
    a, b, c = np.ones((n, n), np.float32), np.ones((n, n), np.float32), np.ones((n, n), np.float32)
    ctypes.memset(c.ctypes.data, 0, c.nbytes)
    open("/proc/self/clear_refs", "w").write("5")  # The peak begins anew.
    before = status("VmRSS")
    kernels.gemm[(-(-n // 256), -(-n // 256))](a, b, c, num_threads=2)
    assert (c == n).all()
    return status("VmHWM") - before, 3 * a.nbytes

run(256)
print(json.dumps([*run(2048), cpu._pools[__import__("os").getpid()]._room]))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_launch_needs_little_more_than_its_arguments_and_panels() -> None:
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    grown, arguments, room = json.loads(done.stdout)
    assert 0 < room < 2 << 20
    assert arguments == 3 * 2048**2 * 4
    assert grown <= 0.2 * arguments + 2 * room


def test_more_instances_need_no_more_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    x = normal(5000, 64)
    y, z = np.zeros_like(x), np.zeros_like(x)
    kernels.softmax[(10,)](x, y, BN=64, num_threads=2)
    monkeypatch.setattr("tilec.runtime.threads.scratch", lambda size: pytest.fail("allocated"))
    monkeypatch.setattr("tilec.runtime.cpu.scratch", lambda size: pytest.fail("allocated"))
    kernels.softmax[(5000,)](x, z, BN=64, num_threads=2)
    np.testing.assert_array_equal(z[:10], y[:10])
    assert z[10:].any(axis=1).all()


@pytest.mark.parametrize("size", [1, 64, 1000, (2 << 20) // 4, 3 << 20])
def test_scratch_memory_begins_with_a_line_and_is_large_enough(size: int) -> None:
    found = scratch(size)
    assert found.size >= size and found.ctypes.data % 64 == 0
    found[:size] = 1
    assert not found[size:].any()


def test_a_repeated_launch_costs_little() -> None:
    a, b, c = np.zeros(64), np.zeros(64), np.zeros(64)
    launch = kernels.stream[(1,)]
    launch(a, b, c, kind="copy", N=64)
    best = min(seconds_of(lambda: launch(a, b, c, kind="copy", N=64), 300) for _ in range(5))
    assert best < 40e-6  # 16 microseconds on a quiet machine


def seconds_of(run: Callable[[], None], calls: int) -> float:
    start = time.thread_time()
    for _ in range(calls):
        run()
    return (time.thread_time() - start) / calls


COMPILE = """
import sys, time
import numpy as np
import tilec.backends.cpu, tilec.runtime.cpu
from tilec.bench import kernels
a = np.ones((1, 64, 64), np.float32)
run = {
    "gemm": lambda: kernels.gemm[(1, 1)](a[0], a[0], a[0].copy(), num_threads=1),
    "attention": lambda: kernels.attention[(1, 1)](a, a, a, a.copy(), num_threads=1),
}[sys.argv[1]]
start = time.process_time()
run()
print(time.process_time() - start)
"""


@pytest.mark.parametrize("name", ["gemm", "attention"])
def test_a_cold_compilation_is_quick(name: str) -> None:
    environment = {**os.environ, "TILEC_CACHE": "0"}
    done = subprocess.run([sys.executable, "-c", COMPILE, name], capture_output=True, text=True, check=True,
                          env=environment)  # fmt: skip
    assert float(done.stdout) < 0.9  # 0.2 s and 0.35 s; others may use the machine.


THREADS = """
import time
import numpy as np
from tilec.bench import kernels
x = np.zeros(4096)
launch = lambda: kernels.stream[(4,)](x, x, y, kind="copy", N=1024, num_threads=2)
y = x.copy()
launch()
time.sleep(0.3)
start = time.process_time()
time.sleep(0.5)
idle = time.process_time() - start
launch()
print(idle)
"""


def test_workers_that_have_nothing_to_do_sleep() -> None:
    done = subprocess.run([sys.executable, "-c", THREADS], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 0.05


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="Linux only")
def test_no_worker_stays_on_the_launchers_core() -> None:
    from tilec.runtime.cpu import _pool

    allowed = os.sched_getaffinity(0)
    if len(allowed) < 2:
        pytest.skip("one core")
    x, y = np.zeros(4096), np.zeros(4096)
    try:
        for core in sorted(allowed)[:2]:
            os.sched_setaffinity(0, {core})  # The launcher runs there.
            os.sched_setaffinity(0, allowed)
            kernels.stream[(4,)](x, x, y, kind="copy", N=1024, num_threads=2)
            pool = _pool()
            [worker, *_] = pool._workers
            assert worker.native_id is not None
            assert os.sched_getaffinity(worker.native_id) == allowed - {pool._away}
    finally:
        os.sched_setaffinity(0, allowed)
