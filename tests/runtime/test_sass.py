"""Machine code as data: stalls from the encoding, loops, and what peers' figures are compared with."""

from __future__ import annotations

from pathlib import Path

import pytest

from tilec.load import load_kernel
from tilec.runtime import sass, toolchain

ROOT = Path(__file__).parents[2]
LISTING = """\
.text.k:
.L_x_1:
        /*0000*/                   WARPGROUP.ARRIVE ;                    /* 0x00000000000079c5 */
                                                                         /* 0x000fcc0000000000 */
        /*0010*/                   HGMMA.64x128x16.F32 R24, gdesc[UR16], RZ, !UPT ;  /* 0x01e00000101879f0 */
                                                                         /* 0x000fe2000c7008ff */
        /*0020*/              @!P0 FFMA.FTZ R1, R2, R3, R4 ;             /* 0x0000000206107890 */
                                                                         /* 0x000fe2000fffe03f */
        /*0030*/               @P0 BRA `(.L_x_1) ;                       /* 0x0000000000007947 */
                                                                         /* 0x000fea0003800000 */
        /*0040*/                   EXIT ;                                /* 0x000000000000794d */
                                                                         /* 0x000fea0003800000 */
"""


def test_what_a_listing_says() -> None:
    listing = sass.parse(LISTING)
    assert [c.opcode for c in listing.code] == ["WARPGROUP", "HGMMA", "FFMA", "BRA", "EXIT"]
    assert [c.stall for c in listing.code] == [6, 1, 1, 5, 5]
    assert list(listing.loops()) == [(0, 3)]
    assert sass.counts(listing.product_loop()) == {"instructions": 4, "stalls": 13, "MMA": 1, "FP32": 1}


def test_the_innermost_loop_counts() -> None:
    first, *rest = LISTING.splitlines(keepends=True)
    around = [x.replace("L_x_1", "L_x_0").replace("0030", "0038") for x in rest[7:9]]
    text = "".join([first, ".L_x_0:\n", rest[5], rest[6], *rest[:9], *around, *rest[9:]])
    listing = sass.parse(text)
    assert list(listing.loops()) == [(1, 4), (0, 5)]
    assert [c.opcode for c in listing.product_loop()] == ["WARPGROUP", "HGMMA", "FFMA", "BRA"]


def test_code_without_products_has_no_such_loop() -> None:
    assert sass.parse(LISTING.replace("HGMMA", "DADD")).product_loop() == ()


def test_the_body_is_without_what_it_calls_and_padding() -> None:
    lines = LISTING.splitlines(keepends=True)
    padding = ".L_x_9:\n" + lines[8].replace("@P0 BRA `(.L_x_1)", "BRA `(.L_x_9)") + lines[9]
    rest = padding + lines[10].replace("EXIT", "NOP ") + lines[11]
    assert sass.parse(LISTING + rest).body() == sass.parse(LISTING).code
    assert len(sass.parse(LISTING + rest).code) == 7
    called = "$__internal_0_$__cuda_sm3x_div_rn:\n" + lines[6] + lines[7] + rest
    assert sass.parse(LISTING + called).body() == sass.parse(LISTING).code


def test_the_main_loop_handles_no_edge() -> None:
    first, *loop = LISTING.splitlines(keepends=True)[:10]
    edge, slow = [*loop[:5], *loop[5:7] * 20, *loop[7:]], [loop[0], *loop[1:3] * 2, *loop[3:]]
    parts = [loop, edge, slow]
    text = first + "".join("".join(p).replace("L_x_1", f"L_x_{i}") for i, p in enumerate(parts, 1))
    listing = sass.parse(text)
    assert [len(x) for x in listing.product_loops()] == [4, 23, 5]
    assert listing.main_loop() == listing.product_loops()[0]


@pytest.mark.skipif(toolchain.find("nvdisasm") is None, reason="pip install 'tilec[test]'")
def test_the_loop_of_a_product() -> None:
    """Peers: 62 instructions and 164 stall cycles at best for these tiles, K = 64 (CuTe DSL, Triton)."""
    from tilec.backends.ptx import compile_kernel
    from tilec.passes import lower

    kernel = load_kernel(f"{ROOT}/examples/gemm.py:gemm", "f16[2],f16[2],f16[2]", ())
    text = compile_kernel(lower(kernel, "sm_90a").scheduled, "sm_90a").text
    done = toolchain.assemble(text, "sm_90a")
    found = sass.counts(sass.parse(toolchain.disassemble(done.cubin, hex=True)).product_loop())
    assert found["MMA"] == 4 and "LOCAL" not in found
    assert found["instructions"] < 62 and found["stalls"] < 164
