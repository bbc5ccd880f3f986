"""A100 SXM, sm_80: no bulk copies and no warpgroup products, so both cost their group all their time."""

from __future__ import annotations

from tilec.passes.schedule.machines.table import SHARED, Copy, Host, Machine, Product

_MMA = ((0, 0.25),)

A100 = Machine(
    name="sm_80",
    device="A100",
    units=(("TC", 1), ("FMA", 1), ("ALU", 1), ("XU", 1), ("LSU", 1)),
    lanes=(("FMA", 64), ("ALU", 64), ("XU", 16), ("LSU", 32)),
    latency=(("FMA", 4), ("ALU", 4), ("XU", 16), ("LSU", 29)),
    product=Product(16, _MMA, _MMA, 25, False),
    warp_product=Product(16, _MMA, _MMA, 25, False),
    copy=Copy("LSU", 64, 470, 203, 0, 0),
    host=Host(108, 1.41, 1700),
    issue=32,
    smem=166912,
    global_latency=470,
    reg_limit=248,
    sources=(
        ("units", "one of each per SM: CUDA programming guide, compute capability 8.0"),
        ("lanes", "XLA cuda_core_info_table.cc (FMA 64); CUDA programming guide (ALU 64, XU 16, LSU 32)"),
        ("latency", "stall counts in ptxas 13 output, equal to sm_90a; LDS: arXiv 2402.13499"),
        ("product", "2048 FLOP per clock: XLA, reached: arXiv 2402.13499 Tab. VII; latency of the H100 [C]"),
        ("warp_product", "the same instruction"),
        ("copy", "cp.async: latency of LDG; 64 B per clock from L2 [C]; it costs its group issue slots"),
        ("host", "108 SMs, 1.41 GHz: XLA; 1700 GB/s measured on a part of 1935: TileSight"),
        ("issue", "not used: nothing is asynchronous but cp.async [C]"),
        ("smem", "163 KiB: CUDA programming guide, compute capability 8.0"),
        ("global_latency", "DRAM 466-475 cycles: arXiv 2402.13499"),
        ("reg_limit", "255 per thread at most, in steps of 8; one budget for all threads [C]"),
        *SHARED,
    ),
)  # fmt: skip
