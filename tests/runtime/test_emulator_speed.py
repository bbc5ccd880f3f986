"""The time of checked runs, as CPU time so that it holds on a busy machine."""

from __future__ import annotations

import importlib
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tilec.ir.errors import TilecValueError
from tilec.runtime.emulator.spaces import GlobalMemory

launching = importlib.import_module("tilec.runtime.emulator.launch")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / ".ci" / "emulator_speed.py"))


@pytest.mark.slow
@pytest.mark.parametrize("name, seconds", [("product", 2.0), ("head", 4.0)])
def test_checked_runs_take_less(script: dict[str, Any], name: str, seconds: float) -> None:
    """Twice the time that two cores may take, all in one process, with parsing and decoding."""
    costs = script["measure"](script[name](), processes=1)
    assert max(used for _, used in costs) < seconds


def test_a_text_is_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    text = """.version 8.6
.target sm_90a
.address_size 64
.visible .entry once(.param .u64 out) {
    .reg .b32 %r<4>;
    .reg .b64 %rd<2>;
    ld.param.u64 %rd0, [out];
    mov.u32 %r0, %tid.x;
    mad.wide.u32 %rd1, %r0, 4, %rd0;
    ld.global.u32 %r1, [%rd1];
    add.u32 %r1, %r1, 1;
    st.global.u32 [%rd1], %r1;
    ret;
}
"""
    made = []
    decode = launching.decode
    monkeypatch.setattr(launching, "decode", lambda *a: made.append(a[1].name) or decode(*a))
    memory = GlobalMemory()
    at = memory.add(128)
    for exact in (False, False, True):
        launching.run_ptx(text, "once", (1,), (32,), at.to_bytes(8, "little"), memory, exact=exact)
    np.testing.assert_array_equal(memory.bytes_at(at, 128).view(np.uint32), 3)
    assert made == ["once", "once"]
    with pytest.raises(TilecValueError, match="V420"):
        launching.run_ptx(text, "twice", (1,), (32,), b"", memory)
