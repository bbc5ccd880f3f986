"""The text of two example kernels in each form, as files to read and to compare.

A change of passes or of the printer shows here as a difference that a person
can judge; `pytest --bless` accepts it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tilec.ir.core import Kernel
from tilec.ir.text import print_kernel
from tilec.passes import lower

EXAMPLES = Path(__file__).parents[1] / "examples"


def traced(example: str, signature: list[str], **constants: Any) -> Kernel:
    """The TILE kernel of an example, named as its file."""
    spec = importlib.util.spec_from_file_location(f"golden_{example}", EXAMPLES / f"{example}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    kernel: Kernel = getattr(module, example).trace(signature, **constants)
    return kernel


KERNELS: dict[str, tuple[list[str], dict[str, Any]]] = {
    "gemm": (["f16[2]"] * 3, {"BM": 128, "BN": 256, "BK": 64}),
    "attention": (["f16[4]"] * 4, {"causal": True, "D": 128}),
}


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Examples import their neighbour _check."""
    monkeypatch.syspath_prepend(str(EXAMPLES))


@pytest.mark.parametrize("form", ["tile", "aref", "scheduled"])
@pytest.mark.parametrize("name", KERNELS)
def test_text_of_each_form(name: str, form: str, golden: Callable[[str, str], None]) -> None:
    signature, constants = KERNELS[name]
    stages = lower(traced(name, signature, **constants))
    golden(f"{name}.{form}", print_kernel(getattr(stages, form)))


def test_lowering_twice_gives_the_same_text() -> None:
    signature, constants = KERNELS["gemm"]
    one, two = (print_kernel(lower(traced("gemm", signature, **constants)).scheduled) for _ in range(2))
    assert one == two
