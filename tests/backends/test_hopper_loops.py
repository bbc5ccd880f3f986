"""The inner loops of attention beside those of other compilers, in the machine code of ptxas."""

from __future__ import annotations

import pytest

from tilec.bench_compile.cases import BESIDE_TRITON
from tilec.runtime import sass, toolchain

# Instructions and stall cycles per 128 keys, the least of four compilers with their own kernels: cuTile 1.7
# at head size 128, Triton 3.9 warp-specialised at 64, whose stalls are not known.
PEERS = {"attention": (474, 996), "attention 64": (433, None)}
MASKED = 20  # integer instructions a turn: more compute which keys are seen


@pytest.mark.slow
@pytest.mark.parametrize("name", [n + c for n in PEERS for c in ("", " causal")])
def test_no_loop_of_unmasked_keys_is_longer(name: str, real_budget: None) -> None:
    case = BESIDE_TRITON[name]
    text = case.kernel.compile(case.signature, target="sm_90a", **case.constants).asm["ptx"]
    if toolchain.find("ptxas") is None or toolchain.find("nvdisasm") is None:
        pytest.skip("ptxas or nvdisasm not found: pip install 'tilec[test]'")
    done = toolchain.assemble(text, "sm_90a")
    assert (done.spill_stores, done.spill_loads) == (0, 0)
    assert not [m for m in done.messages if m.serious]
    listing = sass.parse(toolchain.disassemble(done.cubin, hex=True))
    found = [sass.counts(loop) for loop in listing.product_loops()]
    plain = [c for c in found if c.get("INT", 0) < MASKED]
    assert len(plain) == 2  # one of each group
    instructions, stalls = PEERS[name.removesuffix(" causal")]
    assert all(c["instructions"] < instructions for c in plain)
    assert stalls is None or all(c["stalls"] < stalls for c in plain)
