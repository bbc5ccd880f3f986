"""Known loops as scheduling problems, with nominal costs: to test, to compare, to learn from.

Costs follow from sizes and from rates per clock and SM (see each file); they are round
numbers, not measurements. `gallery` has every loop under the name that the command line uses.
"""

from __future__ import annotations

from collections.abc import Callable

from tilec.passes.schedule.loops.backward import fa3_backward
from tilec.passes.schedule.loops.backward_fa4 import fa4_backward
from tilec.passes.schedule.loops.forward import fa3_forward, fa4_forward
from tilec.passes.schedule.loops.graphs import attention_graph, toy
from tilec.passes.schedule.loops.products import dual_gemm, gemm
from tilec.passes.schedule.model import Problem

__all__ = [
    "attention_graph",
    "dual_gemm",
    "fa3_backward",
    "fa3_forward",
    "fa4_backward",
    "fa4_forward",
    "gallery",
    "gemm",
    "toy",
]

gallery: dict[str, Callable[[], Problem]] = {
    "gemm": gemm,
    "gemm-600": lambda: gemm(latency=600),
    "gemm-2000": lambda: gemm(latency=2000),
    "gemm-1": lambda: gemm(consumers=1),
    "dual-gemm": dual_gemm,
    "fa3": fa3_forward,
    "fa3-d64": lambda: fa3_forward(d=64),
    "fa3-d256": lambda: fa3_forward(n=80, d=256),
    "fa3-causal": lambda: fa3_forward(causal=True),
    "fa3-d64-causal": lambda: fa3_forward(d=64, causal=True),
    "fa3-d256-causal": lambda: fa3_forward(n=80, d=256, causal=True),
    "fa3-1tile": lambda: fa3_forward(subtiles=1),
    "fa4-alias": fa4_forward,
    "fa4-free": lambda: fa4_forward(layout="free"),
    "fa4-separate": lambda: fa4_forward(layout="separate"),
    "fa4-knobs": lambda: fa4_forward(share=0.25, split=4),
    "fa4-1tile": lambda: fa4_forward(subtiles=1),
    "fa3-backward": fa3_backward,
    "fa3-backward-80": lambda: fa3_backward(rows=80),
    "fa3-backward-96": lambda: fa3_backward(rows=96),
    "fa4-backward": fa4_backward,
    "graph-22": attention_graph,
    "graph-40": lambda: attention_graph(2),
    "graph-58": lambda: attention_graph(3),
    "toy": toy,
}
