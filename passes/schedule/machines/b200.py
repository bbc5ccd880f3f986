"""B200, sm_100a: tensor memory, and products that one thread issues."""

from __future__ import annotations

from tilec.passes.schedule.machines.table import SHARED, Copy, Host, Machine, Product

B200 = Machine(
    name="sm_100a",
    device="B200",
    units=(("TC", 1), ("FMA", 1), ("ALU", 1), ("XU", 1), ("LSU", 1), ("TMA", 1), ("TMEM", 1)),
    lanes=(("FMA", 128), ("ALU", 64), ("XU", 16), ("LSU", 32)),
    latency=(("FMA", 4), ("ALU", 4), ("XU", 16), ("LSU", 29)),
    product=Product(128, ((11, 0), (0, 0.5)), ((54.5, 0), (10, 0.5)), 263, True),
    warp_product=Product(16, ((0, 0.25),), ((0, 0.25),), 25, False),
    copy=Copy("TMA", 64, 460, 390, 30, 420),
    host=Host(148, 1.85, 7000),
    issue=30,
    smem=232448,
    global_latency=704,
    tmem=512,
    tmem_rate=244,
    tmem_latency=41,
    sources=(
        ("units", "as the H100, with tensor memory: cutlass 7107b05 include/cute"),
        ("lanes", "FMA: XLA cuda_core_info_table.cc; ALU, LSU: b300_clean; XU: FlashAttention-4"),
        ("latency", "stall counts in ptxas 13 output, equal to sm_90a; LDS: arXiv 2402.13499"),
        ("product", "8192 FLOP per clock: XLA; at least 11 cycles: arXiv 2512.02189; chains: public probe; "
                    "128x128x64 complete after 559 = 4 * 74 + 263 [C]: triton db4666f, NVLatencyModel.cpp"),
        ("warp_product", "about a quarter of the peak: arXiv 2501.12084, FlashGPU-Sim"),
        ("copy", "460 cycles, issue 30: triton db4666f, NVLatencyModel.cpp; near LDG + 105, others H100 [C]"),
        ("host", "148 SMs: Gluon tutorial 12; 1.85 GHz: FlashAttention-4; 7000 GB/s: TileSight"),
        ("issue", "30 cycles to issue a product: triton db4666f, NVLatencyModel.cpp"),
        ("smem", "227 KiB: CUDA programming guide, compute capability 10.0"),
        ("global_latency", "DRAM about 704 cycles: b300_clean (B300)"),
        ("reg_limit", "as the H100 [C]"),
        ("tmem", "512 columns of 128 lanes: PTX ISA, tcgen05.alloc"),
        ("tmem_rate", "4.2 cycles per KB of a round trip, 41 beyond: triton db4666f, paper_joint_solver"),
        ("tmem_latency", "as tmem_rate"),
        *SHARED,
    ),
)  # fmt: skip
