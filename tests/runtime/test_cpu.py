"""Launching on the CPU: threads, repeated launches, the object code cache."""

from __future__ import annotations

import multiprocessing
import threading
from typing import Any

import numpy as np
import pytest

import tilec
import tilec.language as tl
from tilec.ir.errors import TilecError
from tilec.runtime import machine
from tilec.runtime.cpu import _pools, default_threads

STEP = 1.0


@tilec.kernel
def add_step(X: tl.Tensor, Y: tl.Tensor, N: tl.constexpr[int] = 64):
    i = tl.program_id(0)
    tl.store(Y, (i,), tl.load(X, (i,), (N,)) + STEP)


@tilec.kernel
def scaled(X: tl.Tensor, Y: tl.Tensor, factor: tl.float32, shift: tl.int32, N: tl.constexpr[int] = 64):
    i = tl.program_id(0)
    tl.store(Y, (i,), tl.load(X, (i,), (N,)) * factor + shift.to(tl.float32))


@tilec.kernel
def count(Counter: tl.Tensor, Seen: tl.Tensor):
    tl.atomic_add(Counter, (0,), 1)
    tl.store(Seen, (tl.program_id(0),), tl.full((1,), 1, tl.int32))


def pair(n: int = 1000) -> tuple[np.ndarray, np.ndarray]:
    return np.arange(n, dtype=np.float32), np.zeros(n, np.float32)


def test_a_repeated_launch_takes_other_arrays_grids_and_numbers() -> None:
    for n in (1000, 1000, 1000, 64, 777):
        x, y = pair(n)
        add_step[(-(-n // 64),)](x, y)
        np.testing.assert_array_equal(y, x + 1)
    for factor, shift in ((2.0, 1), (0.5, -7), (3, 2**31 - 1)):
        x, y = pair()
        scaled[lambda meta: (-(-1000 // meta["N"]),)](x, y, factor, shift)
        np.testing.assert_array_equal(y, x * np.float32(factor) + np.float32(shift))
    assert add_step.plans._found and scaled.plans._found  # The short way was really taken.


def test_a_repeated_launch_sees_a_changed_global(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = pair()
    add_step[(16,)](x, y)
    monkeypatch.setitem(globals(), "STEP", 5.0)
    add_step[(16,)](x, y)
    np.testing.assert_array_equal(y, x + 5)


def code_of(run: Any) -> str:
    with pytest.raises(TilecError) as caught:
        run()
    return caught.value.code


def test_a_repeated_launch_refuses_what_the_first_would() -> None:
    x, y = pair()
    scaled[(16,)](x, y, 1.0, 1)
    both = np.zeros(1064, np.float32)
    scaled[(16,)](both[:1000].copy(), y, 1.0, 1)
    assert code_of(lambda: scaled[(16,)](both[:1000], both[64:], 1.0, 1)) == "V202"
    assert code_of(lambda: scaled[(16,)](x, y, 1.0, 2**31)) == "V352"
    assert code_of(lambda: scaled[(0,)](x, y, 1.0, 1)) == "V355"
    assert code_of(lambda: scaled[(16,)](x, y, 1.0, 1, num_threads=0)) == "V356"
    y.flags.writeable = False
    assert code_of(lambda: scaled[(16,)](x, y, 1.0, 1)) == "V201"


def test_strided_and_unaligned_arrays_after_dense_ones() -> None:
    x, y = pair()
    add_step[(16,)](x, y)
    wide, odd = np.zeros(2000, np.float32), np.arange(1001, dtype=np.float32)[1:]
    add_step[(16,)](odd, wide[::2])
    np.testing.assert_array_equal(wide[::2], odd + 1)
    assert not wide[1::2].any()


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_every_instance_runs_once(threads: int) -> None:
    counter, seen = np.zeros(1, np.int32), np.zeros(3001, np.int32)
    count[(3001,)](counter, seen, num_threads=threads)
    assert counter[0] == 3001 and seen.all()


def test_launches_from_several_threads_at_once() -> None:
    wrong: list[int] = []

    def work(seed: int) -> None:
        for i in range(40):
            x, y = pair(640 + seed)
            add_step[(-(-len(x) // 64),)](x, y, num_threads=2)
            if not np.array_equal(y, x + 1):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def _in_a_fork(queue: Any) -> None:
    x, y = pair()
    add_step[(16,)](x, y, num_threads=2)
    queue.put((bool(np.array_equal(y, x + 1)), len(_pools)))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
def test_a_fork_has_its_own_workers() -> None:
    x, y = pair()
    add_step[(16,)](x, y, num_threads=2)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_in_a_fork, args=(queue,))
    child.start()
    right, pools = queue.get(timeout=60)
    child.join(timeout=60)
    assert right and pools == 2 and child.exitcode == 0


def test_the_environment_sets_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILEC_NUM_THREADS", "3")
    assert default_threads() == 3
    monkeypatch.setenv("TILEC_NUM_THREADS", "none")
    assert code_of(default_threads) == "V601"


def test_object_code_is_compiled_once(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILEC_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TILEC_CACHE", "1")
    text = "define i64 @answer() { ret i64 42 }"
    assert machine.compile_text(text).address("answer")
    monkeypatch.setattr(machine, "_object", lambda *_: pytest.fail("compiled again"))
    assert machine.compile_text(text).address("answer")


def test_code_that_llvm_refuses_is_an_internal_error() -> None:
    assert code_of(lambda: machine.compile_text("define nothing")) == "X250"


def test_large_outputs_go_past_the_caches_and_stay_right() -> None:
    from tilec.backends.cpu import host

    n = host().last_bytes // 4 + 1001
    x = np.arange(n, dtype=np.float32)
    y = np.zeros(n + 3, np.float32)[3:]
    add_step[(-(-n // 8192),)](x, y, N=8192)
    np.testing.assert_array_equal(y, x + 1)
