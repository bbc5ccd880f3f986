"""Worker threads that wait, take program instances and finish inside of machine code.

A pool is a block of memory shared with the workers. Its epoch is odd while a job is
open: the launcher writes the job, opens it, takes instances itself, closes it and
waits until nobody runs. A worker announces itself, looks whether the job is still
open, and takes a ticket before it touches anything. Workers look for the next job
for a while before they sleep (TILEC_SPIN_MS), and soon let others run between two looks.
"""

from __future__ import annotations

import atexit
import ctypes
import mmap
import os
import threading
import time
from contextlib import suppress
from functools import cache
from typing import Any

import llvmlite.binding as llvm
import numpy as np

from tilec.ir.errors import ResourceError
from tilec.runtime.config import config
from tilec.runtime.machine import Code, compile_text

# Offsets in bytes; what different threads write lies in different cache lines.
_FIELDS = {
    "epoch": 0, "entry": 64, "args": 72, "end": 80, "chunk": 88, "spaces": 96, "stop": 104, "patience": 112,
    "counter": 128, "tickets": 192, "running": 256, "sleeping": 320, "mutex": 384, "cond": 512,
}  # fmt: skip
_BYTES = 640
_SPINS = 2000
# Nanoseconds for which a worker keeps its core while it looks; then it yields at every look.
_BUSY = 100_000
# Tells the core that this is a waiting loop: intrinsic, its parameters, the argument; for x86 or not.
_PAUSE = {True: ("llvm.x86.sse2.pause", "", ""), False: ("llvm.aarch64.hint", "i32", "i32 1")}

_TEXT = """
declare i32 @pthread_mutex_init(ptr, ptr)
declare i32 @pthread_cond_init(ptr, ptr)
declare i32 @pthread_mutex_lock(ptr)
declare i32 @pthread_mutex_unlock(ptr)
declare i32 @pthread_cond_wait(ptr, ptr)
declare i32 @pthread_cond_broadcast(ptr)
declare i32 @sched_yield()
declare i32 @clock_gettime(i32, ptr)

define internal i64 @now() {
  %time = alloca { i64, i64 }
  %r = call i32 @clock_gettime(i32 CLOCK, ptr %time)
  %s = load i64, ptr %time
  %place = getelementptr i8, ptr %time, i64 8
  %n = load i64, ptr %place
  %whole = mul i64 %s, 1000000000
  %sum = add i64 %whole, %n
  ret i64 %sum
}

define void @pool_init(ptr %pool) {
  $mutex $cond
  %a = call i32 @pthread_mutex_init(ptr %mutex, ptr null)
  %b = call i32 @pthread_cond_init(ptr %cond, ptr null)
  ret void
}

define void @pool_work(ptr %pool, i64 %index) {
start:
  $epoch $entry $args $end $chunk $spaces $stop $patience $counter $tickets $running $sleeping $mutex $cond
  %patient = load i64, ptr %patience
  br label %next
next:
  %seen = phi i64 [0, %start], [%seen, %missed], [%now, %late], [%now, %ran]
  %since = call i64 @now()
  br label %spin
spin:
  %e = load atomic i64, ptr %epoch seq_cst, align 8
  %odd = trunc i64 %e to i1
  %new = icmp ne i64 %e, %seen
  %open = and i1 %odd, %new
  br i1 %open, label %enter, label %idle
idle:
  %time = call i64 @now()
  %waited = sub i64 %time, %since
  %tired = icmp uge i64 %waited, %patient
  br i1 %tired, label %sleep, label %again
again:
  %long = icmp ugt i64 %waited, BUSY
  br i1 %long, label %yield, label %pause
pause:
  call void PAUSE
  br label %spin
yield:
  %y0 = call i32 @sched_yield()
  br label %spin
sleep:
  %l = call i32 @pthread_mutex_lock(ptr %mutex)
  %s = atomicrmw add ptr %sleeping, i64 1 seq_cst
  br label %look
look:
  %e2 = load atomic i64, ptr %epoch seq_cst, align 8
  %odd2 = trunc i64 %e2 to i1
  %new2 = icmp ne i64 %e2, %seen
  %open2 = and i1 %odd2, %new2
  %halt = load atomic i64, ptr %stop seq_cst, align 8
  %stopped = icmp ne i64 %halt, 0
  %up = or i1 %open2, %stopped
  br i1 %up, label %woken, label %wait
wait:
  %w = call i32 @pthread_cond_wait(ptr %cond, ptr %mutex)
  br label %look
woken:
  %s2 = atomicrmw sub ptr %sleeping, i64 1 seq_cst
  %u = call i32 @pthread_mutex_unlock(ptr %mutex)
  br i1 %stopped, label %out, label %enter
enter:
  %now = phi i64 [%e, %spin], [%e2, %woken]
  %r = atomicrmw add ptr %running, i64 1 seq_cst
  %e3 = load atomic i64, ptr %epoch seq_cst, align 8
  %same = icmp eq i64 %e3, %now
  br i1 %same, label %ticket, label %missed
missed:
  %r1 = atomicrmw sub ptr %running, i64 1 seq_cst
  br label %next
ticket:
  %t = atomicrmw sub ptr %tickets, i64 1 seq_cst
  %mine = icmp sgt i64 %t, 0
  br i1 %mine, label %run, label %late
late:
  %r2 = atomicrmw sub ptr %running, i64 1 seq_cst
  br label %next
run:
  %f = load ptr, ptr %entry
  %x = load ptr, ptr %args
  %y = load i64, ptr %end
  %z = load i64, ptr %chunk
  %list = load ptr, ptr %spaces
  %cell = getelementptr ptr, ptr %list, i64 %index
  %space = load ptr, ptr %cell
  call void %f(ptr %x, ptr %counter, i64 %y, i64 %z, ptr %space)
  br label %ran
ran:
  %r3 = atomicrmw sub ptr %running, i64 1 seq_cst
  br label %next
out:
  ret void
}

define void @pool_stop(ptr %pool) {
  $stop $mutex $cond
  %l = call i32 @pthread_mutex_lock(ptr %mutex)
  store atomic i64 1, ptr %stop seq_cst, align 8
  %b = call i32 @pthread_cond_broadcast(ptr %cond)
  %u = call i32 @pthread_mutex_unlock(ptr %mutex)
  ret void
}

define void @pool_launch(ptr %pool, ptr %f, ptr %x, i64 %y, i64 %z, ptr %list, i64 %helpers) {
start:
  $epoch $entry $args $end $chunk $spaces $counter $tickets $running $sleeping $mutex $cond
  store ptr %f, ptr %entry
  store ptr %x, ptr %args
  store i64 %y, ptr %end
  store i64 %z, ptr %chunk
  store ptr %list, ptr %spaces
  store i64 0, ptr %counter
  store atomic i64 %helpers, ptr %tickets seq_cst, align 8
  %e = atomicrmw add ptr %epoch, i64 1 seq_cst
  %s = load atomic i64, ptr %sleeping seq_cst, align 8
  %asleep = icmp sgt i64 %s, 0
  br i1 %asleep, label %wake, label %work
wake:
  %l = call i32 @pthread_mutex_lock(ptr %mutex)
  %b = call i32 @pthread_cond_broadcast(ptr %cond)
  %u = call i32 @pthread_mutex_unlock(ptr %mutex)
  br label %work
work:
  %space = load ptr, ptr %list
  call void %f(ptr %x, ptr %counter, i64 %y, i64 %z, ptr %space)
  %e2 = atomicrmw add ptr %epoch, i64 1 seq_cst
  br label %wait
wait:
  %n = phi i64 [0, %work], [%n1, %spin], [0, %yield]
  %r = load atomic i64, ptr %running seq_cst, align 8
  %busy = icmp ne i64 %r, 0
  br i1 %busy, label %idle, label %out
idle:
  %n1 = add i64 %n, 1
  %more = icmp ult i64 %n1, SPINS
  br i1 %more, label %spin, label %yield
spin:
  call void PAUSE
  br label %wait
yield:
  %i = call i32 @sched_yield()
  br label %wait
out:
  ret void
}
"""


def _text() -> str:
    text = _TEXT
    for name, offset in _FIELDS.items():
        text = text.replace(f"${name}", f"%{name} = getelementptr i8, ptr %pool, i64 {offset}\n ")
    x86 = llvm.get_process_triple().startswith(("x86_64", "i686", "amd64"))
    name, kind, argument = _PAUSE[x86]
    text = text.replace("PAUSE", f"@{name}({argument})").replace("SPINS", str(_SPINS))
    text = text.replace("BUSY", str(_BUSY)).replace("CLOCK", str(time.CLOCK_MONOTONIC))
    return f"{text}\ndeclare void @{name}({kind})\n"


_P, _N = ctypes.c_void_p, ctypes.c_int64


@cache
def _functions() -> tuple[Code, dict[str, Any]]:
    code = compile_text(_text())
    kinds = {
        "pool_init": (_P,), "pool_work": (_P, _N), "pool_stop": (_P,),
        "pool_launch": (_P, _P, _P, _N, _N, _P, _N),
    }  # fmt: skip
    return code, {n: ctypes.CFUNCTYPE(None, *t)(code.address(n)) for n, t in kinds.items()}


LINE = 64
PAGE = 2 << 20  # bytes of a large page


class Pool:
    """The workers of a process. One launch at a time: take `lock` first."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.pid = os.getpid()
        self._code, self._call = _functions()
        self._memory = scratch(_BYTES)
        self._address = self._memory.ctypes.data
        self._call["pool_init"](self._address)
        patience = ctypes.c_int64.from_address(self._address + _FIELDS["patience"])
        patience.value = int(config().spin_ms * 1e6)
        self._workers: list[threading.Thread] = []
        self._scratch: list[np.ndarray[Any, Any]] = []
        self._away: int | None = None  # the core on which no worker runs
        self._room = 0  # bytes that each of them has at least
        self._spaces: Any = (ctypes.c_void_p * 0)()
        atexit.register(self.stop)

    def run(self, entry: int, slots: int, total: int, chunk: int, helpers: int, bytes_: int) -> None:
        """Run ``total`` instances of the code at ``entry`` here and in ``helpers`` workers."""
        if helpers > len(self._workers) or self._room < bytes_:
            self._grow(helpers, bytes_)
        here = _this_core()
        if here is not None and here != self._away:
            self._leave(here)
        self._call["pool_launch"](self._address, entry, slots, total, chunk, self._spaces, helpers)

    def _grow(self, workers: int, bytes_: int) -> None:
        """Have at least so many workers, and for each of them and the launcher so much memory."""
        count = max(workers, len(self._workers)) + 1
        self._room = max(bytes_, self._room)
        self._scratch = [scratch(self._room) for _ in range(count)]
        self._spaces = (ctypes.c_void_p * count)(*(s.ctypes.data for s in self._scratch))
        self._away = None
        for index in range(len(self._workers) + 1, count):
            arguments = self._address, index
            thread = threading.Thread(
                target=self._call["pool_work"], args=arguments, name=f"tilec-{index}", daemon=True
            )
            self._workers.append(thread)
            thread.start()

    def _leave(self, core: int) -> None:
        """Keep the workers off the launcher's core.

        The system would put them there where threads of another library idle in a loop on the others.
        """
        others = os.sched_getaffinity(0) - {core}
        for thread in self._workers if others else ():
            if thread.native_id is not None:
                os.sched_setaffinity(thread.native_id, others)
        self._away = core

    def stop(self) -> None:
        """End the workers, so that none is in machine code when the process frees it."""
        if self.pid == os.getpid():
            with self.lock:
                self._call["pool_stop"](self._address)
                for thread in self._workers:
                    thread.join(timeout=1.0)
                self._workers.clear()


@cache
def _core_of() -> Any:
    linux = hasattr(os, "sched_setaffinity") and hasattr(ctypes.CDLL(None), "sched_getcpu")
    return ctypes.CDLL(None).sched_getcpu if linux else lambda: None


def _this_core() -> int | None:
    """The core that runs this thread; None where nobody can tell."""
    found: int | None = _core_of()()
    return found


def scratch(size: int) -> np.ndarray[Any, Any]:
    """Memory for tiles that begins with a cache line, in large pages where that is possible.

    Small pages lie anywhere, so that their lines push each other out of the second cache.
    Raises ResourceError where there is not enough.
    """
    try:
        found = _large(size) if size >= PAGE // 4 and hasattr(mmap, "MADV_HUGEPAGE") else None
        return _aligned(np.zeros(size + LINE, np.uint8) if found is None else found, LINE)
    except (MemoryError, OSError):
        raise ResourceError("R202", f"the tiles of the kernel need {size} bytes for each thread",
                            help="use smaller tiles") from None  # fmt: skip


def _large(size: int) -> np.ndarray[Any, Any]:
    whole = -(-size // PAGE) * PAGE
    memory = mmap.mmap(-1, whole + PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # The system has no large pages.
        memory.madvise(mmap.MADV_HUGEPAGE)
    return _aligned(np.frombuffer(memory, np.uint8), PAGE)


def _aligned(memory: np.ndarray[Any, Any], to: int) -> np.ndarray[Any, Any]:
    """What lies behind the first address that is a multiple."""
    return memory[-memory.ctypes.data % to :]
