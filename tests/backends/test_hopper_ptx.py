"""Facts of the emitted PTX, what the assembler says about it, and what mutations of it do."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hopper_kit import (
    Array,
    assembled,
    attention,
    disassembled,
    gelu_gemm,
    gemm,
    persistent,
    random_array,
    tile_kernel,
    twin,
    types,
)

from tilec.backends.artifact import Artifact
from tilec.backends.ptx import compile_kernel
from tilec.backends.ptx.hopper_groups import launch_registers
from tilec.ir.core import Block
from tilec.ir.errors import DeadlockError, RaceError, ResourceError
from tilec.ir.ops import make
from tilec.passes import Options, lower
from tilec.runtime.emulator import launch

BIG = {"BM": 128, "BN": 256, "BK": 64}
F16 = ("f16", 2)


def compiled(fn: Any, signature: tuple[Any, ...], options: Options | None = None, **meta: Any) -> Artifact:
    kernel = fn.trace(signature, **meta)
    return compile_kernel(lower(kernel, "sm_90a", options or Options()).scheduled)


@pytest.fixture(scope="module")
def big() -> Artifact:
    return compiled(gemm, types(F16, F16, F16), **BIG)


def lines(artifact: Artifact, pattern: str) -> list[str]:
    return [line.strip() for line in artifact.text.splitlines() if re.search(pattern, line)]


def test_gemm_is_one_producer_and_two_consumers(big: Artifact) -> None:
    assert big.threads == 384
    assert [x.split(";")[0] for x in lines(big, "setmaxnreg")] == [
        "setmaxnreg.dec.sync.aligned.u32 24",
        "setmaxnreg.inc.sync.aligned.u32 240",
    ]
    assert len(lines(big, r"wgmma.mma_async.*m64n256k16.f32.f16.f16")) == 4
    for directive in (".reqntid 384, 1, 1", ".minnctapersm 1", ".maxnreg 168"):
        assert directive in big.text


@pytest.mark.parametrize(
    "warps,registers", [((4, 8), (40, 232)), ((4, 4), (24, 240)), ((4, 4, 4), (24, 240, 240))]
)
def test_the_pool_of_registers_covers_all_groups(warps: tuple[int, ...], registers: tuple[int, ...]) -> None:
    empty = [Block((), (make("yield"),)) for _ in warps]
    names = tuple("abc"[: len(warps)])
    launch = launch_registers(
        make("warp_groups", blocks=empty, names=names, warps=warps, registers=registers)
    )
    assert launch % 8 == 0 and 32 * sum(warps) * launch <= 65536
    assert launch * sum(warps) >= sum(w * r for w, r in zip(warps, registers, strict=True))


def test_barriers_of_a_ring(big: Artifact) -> None:
    """full counts the one arrival of the copies, empty one arrival of each warpgroup."""
    counts = [line.split(", ")[-1].split(";")[0] for line in lines(big, r"mbarrier\.init")]
    depth = len(counts) // 2
    assert counts == ["1"] * depth + ["2"] * depth
    order = [x.split()[0] for x in lines(big, r"fence\.mbarrier_init|bar\.sync|setmaxnreg.dec|expect_tx")]
    assert order[:2] == ["fence.mbarrier_init.release.cluster;", "bar.sync"] and len(order) > 3
    assert len(lines(big, "fence.proxy.async")) == 1  # the epilogue's; no ring needs one


@pytest.mark.parametrize(
    "dtype,meta,expected",
    [
        ("f16", BIG, 2 * (128 * 64 + 64 * 256)),
        ("bf16", {"BM": 64, "BN": 64, "BK": 32}, 2 * 2 * 64 * 32),
        ("f16", {"BM": 64, "BN": 32, "BK": 64}, 2 * (64 * 64 + 64 * 32)),
    ],
)
def test_one_arrival_expects_the_bytes_of_all_boxes(dtype: str, meta: Any, expected: int) -> None:
    made = compiled(gemm, types((dtype, 2), (dtype, 2), (dtype, 2)), **meta)
    found = lines(made, "expect_tx")
    assert len(found) == 1 and found[0].split(", ")[-1].startswith(f"{expected};")


def test_eight_bit_operands_expect_half_the_bytes() -> None:
    args = [random_array((128, 128)), random_array((128, 128)).T]
    args = [a.astype(np.int8) for a in args]
    kernel = tile_kernel(gemm, [*args, np.zeros((128, 128), np.int32)], BK=128, BM=128)
    made = compile_kernel(lower(kernel).scheduled)
    assert [x.split(", ")[-1].split(";")[0] for x in lines(made, "expect_tx")] in (
        [],
        [f"{128 * 128 + 64 * 128}"],
    )


def test_tensor_maps_are_shared_and_follow_the_other_parameters(big: Artifact) -> None:
    maps = [p.map for p in big.params if p.map is not None]
    assert [(m.arg, m.dims, m.box, m.swizzle) for m in maps] == [
        (0, (1, 0), (64, 128), "128B"),
        (1, (1, 0), (64, 64), "128B"),
        (2, (1, 0), (64, 128), "128B"),
    ]
    assert [p.kind for p in big.params][-3:] == ["tensor_map"] * 3


def test_equal_input_gives_equal_bytes(big: Artifact) -> None:
    assert compiled(gemm, types(F16, F16, F16), **BIG).text == big.text


def test_staging_shrinks_where_the_ring_takes_the_space() -> None:
    full = compiled(gemm, types(F16, F16, F16), Options(stages=3), **BIG)
    tight = compiled(gemm, types(F16, F16, F16), Options(stages=4), **BIG)
    assert full.smem_bytes - 3 * 49152 > 65536
    assert tight.smem_bytes <= 232448
    assert len(lines(tight, "bulk_group")) == len(lines(full, "bulk_group")) == 4
    assert len(lines(tight, "cp.async.bulk.commit_group")) > len(lines(full, "cp.async.bulk.commit_group"))


@pytest.mark.parametrize("warps", [4, 8, 16])
def test_an_accumulator_that_no_thread_can_hold(warps: int) -> None:
    """With 16 warps a thread has 128 registers, and half of this accumulator takes them all."""
    with pytest.raises(ResourceError, match="R501") as error:
        compiled(
            gemm, types(F16, F16, F16), Options(specialize=False, num_warps=warps), BM=256, BN=256, BK=16
        )
    assert ("num_warps=8" in str(error.value)) == (warps == 4)


KERNELS: dict[str, tuple[Any, tuple[Any, ...], dict[str, Any]]] = {
    "gemm": (gemm, types(F16, F16, F16), BIG),
    "gemm bf16": (gemm, types(*[("bf16", 2)] * 3), BIG),
    "gemm f32 out": (gemm, types(F16, F16, ("f32", 2)), BIG),
    "persistent": (persistent, types(F16, F16, F16), BIG),
    "gelu": (gelu_gemm, types(F16, F16, ("f16", 1), F16), BIG),
    **{
        f"attention {d}{' causal' * causal}": (
            attention,
            types(*[("f16", 3)] * 4),
            {"D": d, "causal": causal, "BM": 128, "BN": 128},
        )
        for d in (64, 128)
        for causal in (False, True)
    },
}


@pytest.mark.parametrize("name", KERNELS)
def test_the_assembler_spills_nothing_and_keeps_everything(name: str) -> None:
    fn, signature, meta = KERNELS[name]
    made = compiled(fn, signature, **meta)
    done = assembled(made.text)
    assert (done.spill_stores, done.spill_loads) == (0, 0)
    assert not [m for m in done.messages if m.serious]
    sass = disassembled(done)
    for mnemonic in ("HGMMA", "UTMALDG", "UTMASTG", "USETMAXREG"):
        assert mnemonic in sass, mnemonic


@pytest.mark.parametrize("causal", [False, True])
def test_p_of_attention_stays_in_registers(causal: bool) -> None:
    made = compiled(attention, types(*[("f16", 3)] * 4), D=128, causal=causal, BM=128, BN=128)
    products = lines(made, "wgmma.mma_async")
    assert len(products) == 2 * sum(p.count("{") == 2 for p in products) > 0
    rounds = [text[text.rindex("$loop") :] for text in made.text.split("bra.uni $loop")[:-1]]
    rounds = [text for text in rounds if "wgmma.mma_async" in text]
    assert rounds and not any("st.shared" in text or "ld.shared" in text for text in rounds)


def test_the_output_of_attention_stays_in_its_registers_from_round_to_round() -> None:
    made = compiled(attention, types(*[("f16", 3)] * 4), D=64, BM=64, BN=64)
    after = made.text[made.text.rindex("wgmma.mma_async") : made.text.rindex("bra.uni $loop")]
    assert after.count("mov.f32") <= 4  # the two row states of two rows


def test_a_product_without_accumulator_ignores_the_registers() -> None:
    """Scale-d of the first step is false, and no zeros are moved for it."""
    made = compiled(attention, types(*[("f16", 3)] * 4), D=64, BM=64, BN=64)
    scales = [re.findall(r"%p\d+", line)[0] for line in lines(made, "wgmma.mma_async")]
    products = {tuple(scales[n : n + 4]) for n in range(0, len(scales), 4)}
    ignoring = {p for p in products if p[0] != p[1]}
    assert ignoring and all(p[1:] == (p[1],) * 3 for p in products)
    assert all(any(f"{p[0]}, 0;" in line for line in lines(made, "mov.pred")) for p in ignoring)


MUTATIONS: dict[str, tuple[str, str, int]] = {
    "no fence before the store": (r"fence\.proxy\.async\.shared::cta;", "", 1),
    "a byte too few": (r"(expect_tx.*), (\d+);", lambda m: f"{m[1]}, {int(m[2]) - 16};", 1),  # type: ignore[dict-item]
    "no wait for products": (r"wgmma\.wait_group\.sync\.aligned \d+;", "", 0),
    "one arrival too many expected": (r"(mbarrier\.init.*), 2;", r"\1, 3;", 0),
    "one arrival too few expected": (r"(mbarrier\.init.*), 2;", r"\1, 1;", 0),
    "no end of the copies out": (r"cp\.async\.bulk\.wait_group 0;", "", 0),
    "no fence of registers": (r"wgmma\.fence\.sync\.aligned;", "", 0),
}


@pytest.fixture(scope="module")
def small() -> tuple[Artifact, list[Array]]:
    args = [random_array((128, 320)), random_array((320, 64)), random_array((128, 64), seed=2)]
    kernel = tile_kernel(gemm, args, BM=128)
    return compile_kernel(lower(kernel, "sm_90a", Options(stages=2)).scheduled), args


def reported(artifact: Artifact, args: list[Array]) -> bool:
    """Whether some timing mode reports a fault."""
    for mode, seed in (("eager", 0), ("lazy", 0), ("random", 1), ("random", 2), ("random", 3)):
        try:
            outcome = launch(artifact, (1, 1), [twin(a) for a in args], mode=mode, seed=seed)  # type: ignore[arg-type]
        except (RaceError, DeadlockError):
            return True
        if outcome.reports:
            return True
    return False


def test_the_kernel_as_it_is_has_no_report(small: tuple[Artifact, list[Array]]) -> None:
    assert not reported(*small)


@pytest.mark.parametrize("name", list(MUTATIONS))
def test_every_piece_of_synchronisation_is_needed(name: str, small: tuple[Artifact, list[Array]]) -> None:
    artifact, args = small
    pattern, replacement, count = MUTATIONS[name]
    text, found = re.subn(pattern, replacement, artifact.text, count=count)
    assert found
    assert reported(replace(artifact, text=text), args)
