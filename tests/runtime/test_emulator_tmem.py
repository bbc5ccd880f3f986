"""Tensor memory: allocation, copies from shared memory, shifts, CTA pairs, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from emulator_kit import MODES as TIMINGS
from emulator_kit import once, run, shared
from tcgen05_kit import Bench, core_matrices, instruction, mma, swizzled

from tilec.ir.errors import DeadlockError
from tilec.ir.ptx import Builder, addr
from tilec.runtime.emulator import EmulatorError

RNG = np.random.default_rng(9)


def copied(shape: str, data: Any, *, swizzle: str = "none", columns: int = 8, suffix: str = "") -> Any:
    """The tensor memory that tcgen05.cp makes of rows of 16 or 32 bytes, as (128, columns) words."""
    bench = Bench(32)
    rows = data.shape[0]
    start = bench.image(core_matrices(data) if swizzle == "none" else swizzled(data, swizzle))
    bench.ready()
    bench.fill(7, 0, columns)
    lbo, sbo = (16 * rows, 128) if swizzle == "none" else (0, 256)
    bench.issue(lambda: bench.b.emit(f"tcgen05.cp.{bench.group}.{shape}{suffix}", bench.cell(0),
                                     bench.describe(start, lbo, sbo, swizzle)))  # fmt: skip
    words = bench.out(0, columns)
    bench.run()
    return words


def rows_of(count: int, size: int) -> Any:
    return RNG.integers(0, 256, (count, size), dtype=np.uint8)


@pytest.mark.parametrize("swizzle", ["none", "32B"])
def test_copies_of_all_lanes(swizzle):
    data = rows_of(128, 32)
    assert (copied("128x256b", data, swizzle=swizzle) == data.view(np.uint32)).all()
    narrow = copied("128x128b", data, swizzle=swizzle)
    assert (narrow[:, :4] == data.view(np.uint32)[:, :4]).all() and (narrow[:, 4:] == 7).all()


def test_copies_that_are_repeated():
    data = rows_of(32, 16)
    assert (copied("32x128b.warpx4", data)[:, :4] == np.tile(data.view(np.uint32), (4, 1))).all()
    words = rows_of(64, 16)
    parts = words.view(np.uint32)[:32], words.view(np.uint32)[32:]
    for suffix, order in (("02_13", (0, 1, 0, 1)), ("01_23", (0, 0, 1, 1))):
        got = copied(f"64x128b.warpx2::{suffix}", words)[:, :4]
        assert (got == np.concatenate([parts[i] for i in order])).all()


def test_a_copy_of_four_lanes():
    data = rows_of(8, 32)
    got = copied("4x256b", data)
    assert (got[::32] == data.view(np.uint32)[:4]).all() and (np.delete(got, range(0, 128, 32), 0) == 7).all()


@pytest.mark.parametrize("bits, shift", [(4, 2), (6, 0)])
def test_copies_unpack_small_formats(bits, shift):
    codes = RNG.integers(0, 1 << bits, (128, 16))
    words = [sum(int(c) << bits * i for i, c in enumerate(row)) for row in codes]
    data = np.frombuffer(b"".join(w.to_bytes(16, "little") for w in words), np.uint8).reshape(128, 16)
    name = {4: "b4x16_p64", 6: "b6x16_p32"}[bits]
    got = copied("128x128b", data, suffix=f".b8x16.{name}")[:, :4]
    assert (np.ascontiguousarray(got).view(np.uint8) == codes << shift).all()


def test_a_shift_moves_31_lanes_down():
    values = RNG.integers(0, 2**32, (128, 8), dtype=np.uint32)
    bench = Bench(32)
    bench.put(values, 0)
    bench.issue(lambda: bench.b.emit(f"tcgen05.shift.{bench.group}.down", bench.cell(0, 32)))
    words = bench.out(0, 8)
    bench.run()
    want = values.copy()
    want[32:63] = values[33:64]
    assert (words == want).all()


def some(rows: int) -> Any:
    return RNG.integers(-4, 5, (rows, 16)).astype(np.float16)


@pytest.mark.parametrize("mode, seed", TIMINGS)
@pytest.mark.parametrize("m", [128, 256])
def test_a_pair_of_ctas_shares_a_product(m, mode, seed):
    """Each CTA has half of the rows of A and of B; D has all columns in each."""
    left, right, n = some(m), some(32), 32
    bench = Bench(group=2)
    a, b = (bench.image(swizzled(v.view(np.uint8).reshape(-1, 32), "32B")) for v in (left, right))
    bench.ready()
    bench.issue(lambda: mma(bench, "f16", bench.cell(0), *(bench.describe(s, 0, 256, "32B") for s in (a, b)),
                            instruction(m, n, 1, 0, 0), 0))  # fmt: skip
    count = n if m == 256 else n // 2
    words = bench.out(0, count)
    bench.run(mode, seed)
    want = (left.astype(float) @ right.astype(float).T).reshape(2, m // 2, n)
    got = words.view(np.float32)
    if m == 256:
        assert (got == want).all()
    else:
        assert (got[:, :64] == want[:, :, :16]).all() and (got[:, 64:] == want[:, :, 16:]).all()


def test_a_pair_copies_what_each_cta_has():
    data = RNG.integers(0, 256, (2, 128, 16), dtype=np.uint8)
    bench = Bench(32, group=2)
    start = bench.image(data)
    bench.ready()
    bench.issue(lambda: bench.b.emit(f"tcgen05.cp.{bench.group}.128x128b", bench.cell(0),
                                     bench.describe(start, 0, 128, "none")))  # fmt: skip
    words = bench.out(0, 4)
    bench.run("random", 3)
    assert (words == data.view(np.uint32)).all()


def allocations(steps: list[tuple[str, int]], *, warps: int = 1, **options: Any) -> None:
    """Warp 0 allocates ("a") and frees ("d", the address in the given slot) columns in turn."""
    b = Builder("k", "sm_100a")
    slots = b.shared("slots", 64, type="b32", align=4)
    taken: list[tuple[int, int]] = []
    for i, (what, value) in enumerate(steps):
        if what == "a":
            b.emit(
                "tcgen05.alloc.cta_group::1.sync.aligned.shared::cta.b32",
                addr(shared(b, slots, 4 * i)),
                value,
            )
            taken.append((i, value))
        elif what == "r":
            b.emit("tcgen05.relinquish_alloc_permit.cta_group::1.sync.aligned")
        else:
            slot, count = taken[value]
            place = b.define("b32", "ld.shared.b32", addr(shared(b, slots, 4 * slot)))
            b.emit("tcgen05.dealloc.cta_group::1.sync.aligned.b32", place, count)
    b.emit("ret")
    run(b, [], block=32 * warps, **options)


@pytest.mark.parametrize("mode, seed", TIMINGS)
def test_columns_can_be_taken_again(mode, seed):
    allocations(
        [("a", 256), ("a", 256), ("d", 0), ("a", 256), ("d", 1), ("d", 2), ("r", 0)], mode=mode, seed=seed
    )


@pytest.mark.parametrize(
    "steps, message",
    [
        ([("a", 48)], "powers of two"),
        ([("a", 16)], "powers of two"),
        ([("r", 0), ("a", 32)], "after relinquish"),
        ([("a", 32), ("d", 0), ("d", 0)], "no allocation"),
        ([("a", 64)], "without the deallocation"),
    ],
)
def test_wrong_allocations_are_e19(steps, message):
    with pytest.raises(Exception, match=message) as e:
        allocations(steps)
    assert e.value.code == "E19"


def test_an_allocation_waits_until_columns_are_free():
    with pytest.raises(DeadlockError, match="waits for 512 columns of tensor memory, of which 256 are free"):
        allocations([("a", 256), ("a", 512)])


def test_columns_outside_an_allocation_are_e19():
    bench = Bench(32)
    bench.out(30, 3)
    with pytest.raises(EmulatorError, match="columns 32 to 32 of tensor memory are not allocated") as e:
        bench.run()
    assert e.value.code == "E19"


def test_lanes_of_another_warp_are_e19():
    bench = Bench(32)
    bench.b.emit("tcgen05.ld.sync.aligned.32x32b.x1.b32", bench.b.regs("b32", 1), bench.cell(0, 64))
    with pytest.raises(EmulatorError, match="accesses lane 64") as e:
        bench.run()
    assert e.value.code == "E19"


@pytest.mark.parametrize("lane, legal", [(16, True), (8, False)])
def test_half_shapes_begin_at_lanes_0_and_16(lane, legal):
    bench = Bench(32)
    bench.fill(0, 0, 1)
    bench.b.emit("tcgen05.ld.sync.aligned.16x64b.x1.b32", bench.b.regs("b32", 1), bench.cell(0, lane))
    bench.b.emit("tcgen05.wait::ld.sync.aligned")
    if legal:
        bench.run()
    else:
        with pytest.raises(EmulatorError, match="accesses lane 8"):
            bench.run()


@pytest.mark.parametrize(
    "idesc, code, message",
    [
        (instruction(96, 16, 1, 0, 0), "D415", "no product of 96 x 16"),
        (instruction(128, 12, 1, 0, 0), None, ""),
        (instruction(128, 16, 2, 0, 0), "D415", "types that kind::f16 lacks"),
        (instruction(128, 16, 1, 2, 0), "D415", "types that kind::f16 lacks"),
        (instruction(128, 16, 1, 0, 0) | 4, "D404", "sparse"),
    ],
)
def test_instruction_descriptors_are_checked(idesc, code, message):
    """(N counts in units of 8, so 12 is 8.)"""
    bench = Bench(32)
    start = bench.image(swizzled(np.zeros((128, 32), np.uint8), "32B"))
    bench.ready()
    bench.issue(
        lambda: mma(bench, "f16", bench.cell(0), *[bench.describe(start, 0, 256, "32B")] * 2, idesc, 0)
    )
    if code is None:
        bench.run()
        return
    with pytest.raises(EmulatorError, match=message) as e:
        bench.run()
    assert e.value.code == code


def test_shared_descriptors_are_checked():
    bench = Bench(32)
    old = bench.b.define("b64", "mov.b64", 1 << 62)
    bench.issue(lambda: mma(bench, "f16", bench.cell(0), old, old, instruction(128, 16, 1, 0, 0), 0))
    with pytest.raises(EmulatorError, match="not of sm_100") as e:
        bench.run()
    assert e.value.code == "D415"


def test_pairs_need_a_cluster():
    b = Builder("k", "sm_100a")
    slot = b.shared("slot", 4, type="b32", align=4)
    b.emit("tcgen05.alloc.cta_group::2.sync.aligned.shared::cta.b32", addr(shared(b, slot)), 32)
    b.emit("ret")
    with pytest.raises(EmulatorError, match="cluster of CTA pairs") as e:
        run(b, [], block=32)
    assert e.value.code == "D415"


def test_a_pair_allocates_together():
    """Only one CTA of the pair calls: it waits for ever."""
    b = Builder("k", "sm_100a")
    slot = b.shared("slot", 4, type="b32", align=4)
    from tilec.ir.ptx.module import Reg

    rank = b.define("b32", "mov.u32", Reg("%cluster_ctarank"))
    skip = b.label("skip")
    b.emit("bra", skip, pred=b.define("pred", "setp.ne.u32", rank, 0))
    b.emit("tcgen05.alloc.cta_group::2.sync.aligned.shared::cta.b32", addr(shared(b, slot)), 32)
    b.place(skip)
    b.emit("ret")
    with pytest.raises(DeadlockError, match="waits for the other CTA of its pair at alloc"):
        run(b, [], block=32, grid=2, cluster=2)


@pytest.mark.parametrize("mode, seed", TIMINGS)
def test_products_of_one_thread_act_in_order(mode, seed):
    """Scale factors that a copy replaces behind the product that reads them (as CUTLASS does)."""
    left, right = np.ones((128, 32), np.uint8) * 0x38, np.ones((32, 32), np.uint8) * 0x38
    bench = Bench()
    a, b = (bench.image(swizzled(v, "32B")) for v in (left, right))
    scales = [bench.image(np.full((32, 16), 127 + i, np.uint8)) for i in range(3)]
    bench.ready()
    idesc = instruction(128, 32, 0, 0, 0, ue8m0=1)

    def body() -> None:
        for step in range(3):
            for column in (128, 160):
                bench.b.emit(f"tcgen05.cp.{bench.group}.32x128b.warpx4", bench.cell(column),
                             bench.describe(scales[step], 0, 128, "none"))  # fmt: skip
            mma(bench, "mxf8f6f4", bench.cell(0), *(bench.describe(s, 0, 256, "32B") for s in (a, b)),
                idesc, step,
                bench.cell(128), bench.cell(160), suffix=".block_scale")  # fmt: skip

    bench.issue(body)
    words = bench.out(0, 32)
    bench.run(mode, seed)
    assert (words.view(np.float32) == 32 * (1 + 4 + 16)).all()


def test_a_load_lands_before_its_registers_are_used():
    """LAZY: the register dependence orders the use after the load, though no wait stands between."""
    bench = Bench(32)
    bench.fill(11, 0, 1)
    b, word = bench.b, bench.b.reg("b32")
    b.emit("tcgen05.ld.sync.aligned.32x32b.x1.b32", (word,), bench.cell(0))
    out = np.zeros((128, 1), np.uint32)
    b.emit("st.global.b32", addr(bench.base(out, 4)), b.define("b32", "add.u32", word, 1))
    b.emit("tcgen05.wait::ld.sync.aligned")
    bench.run("lazy", strict=False)
    assert (out == 12).all()


def test_a_load_without_a_wait_is_late():
    """LAZY: cells that are written before the wait show in what the load gives."""
    bench = Bench(32)
    bench.fill(11, 0, 1)
    b, word, other = bench.b, bench.b.reg("b32"), bench.b.define("b32", "mov.b32", 5)
    b.emit("tcgen05.ld.sync.aligned.32x32b.x1.b32", (word,), bench.cell(0))
    b.emit("tcgen05.st.sync.aligned.32x32b.x1.b32", bench.cell(0), (other,))
    b.emit("tcgen05.wait::st.sync.aligned")
    b.emit("tcgen05.wait::ld.sync.aligned")
    out = np.zeros((128, 1), np.uint32)
    b.emit("st.global.b32", addr(bench.base(out, 4)), word)
    bench.run("lazy", strict=False)
    assert (out == 5).all()
    once(b, lambda: None)
