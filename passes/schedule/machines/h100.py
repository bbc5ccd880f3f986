"""H100 SXM, sm_90a."""

from __future__ import annotations

from tilec.passes.schedule.machines.table import SHARED, Copy, Host, Machine, Product

_WGMMA = ((17, 0.25), (1, 0.5))

H100 = Machine(
    name="sm_90a",
    device="H100",
    units=(("TC", 1), ("FMA", 1), ("ALU", 1), ("XU", 1), ("LSU", 1), ("TMA", 1)),
    lanes=(("FMA", 128), ("ALU", 64), ("XU", 16), ("LSU", 32)),
    latency=(("FMA", 4), ("ALU", 4), ("XU", 16), ("LSU", 29)),
    product=Product(64, _WGMMA, _WGMMA, 46, True),
    warp_product=Product(16, ((0, 1.565 / 8),), ((0, 1.565 / 8),), 25, False),
    copy=Copy("TMA", 64, 1000, 369, 32, 420),
    host=Host(132, 1.83, 3000),
    issue=32,
    smem=232448,
    global_latency=640,
    l2_rate=39.7,
    remote=213,
    sources=(
        ("units", "two warpgroups share one queue of tensor cores: flash-vla hardware-unit-test/sm90"),
        ("lanes", "XLA cuda_core_info_table.cc (FMA); b300_clean (ALU, LSU lanes); FlashAttention-4 (XU)"),
        ("latency", "stall counts in ptxas 13 output: 4; MUFU 8 + 8 for 32 lanes; LDS: arXiv 2402.13499"),
        ("product", "m64nNk16 18.9 ... 129.3 cycles for N 8 ... 256, 46 to drain: flash-vla, within 1.5 %"),
        ("warp_product", "m16n8k16 every 6.26 cycles per warp, latency 25.1: flash-vla"),
        ("copy", "595 ns a box, 217 near, 248 a turn: flash-vla at 1.7 GHz [C]; 64 B/clk and issue [C]"),
        ("host", "132 SMs: XLA; 1.83 GHz and 3000 GB/s: FlashAttention-4, flash-vla"),
        ("issue", "four wgmma and their fences: 32 [C]"),
        ("smem", "227 KiB: CUDA programming guide, compute capability 9.0"),
        ("global_latency", "LDG from DRAM 638 cycles: HPMLL/NVIDIA-Hopper-Benchmark ded6f57 (H800)"),
        (
            "l2_rate",
            "the highest published: 9200 GB/s of an H200 (TileSight) at 1.755 GHz over 132 SMs [C: clock]; "
            "3942 B per clock of an H800 (arXiv 2402.13499) are 29.9",
        ),
        ("remote", "a load from another SM of a cluster, 181 to 213 cycles: arXiv 2402.13499, HPMLL [C]"),
        ("reg_limit", "beside a producer of 24 two warpgroups can have 240 each, no more [C]"),
        *SHARED,
    ),
)  # fmt: skip
