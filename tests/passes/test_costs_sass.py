"""Instructions per element in the cost table are those of the code that ptxas makes."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from tilec.load import load_module
from tilec.passes.schedule.costs import _WORK
from tilec.runtime import toolchain

KERNEL = """
import tilec, tilec.language as tl


@tilec.kernel
def one(X: tl.Tensor, Z: tl.Tensor, Y: tl.Tensor):
    at = (1024 * tl.program_id(0),)
    x, z = tl.load(X, at, (1024,)), tl.load(Z, at, (1024,))
    tl.store(Y, at, {})
"""
EACH = 8  # elements per thread: 1024 over four warps
PIPES = {
    "FMA": ("FADD", "FMUL", "FFMA"),
    "ALU": ("FSETP", "FSEL", "FMNMX"),
    "XU": ("MUFU", "FRND"),
}


def counted(expression: str, folder: Path) -> Counter[str]:
    """Instructions by pipe per element, without those that no row of the table counts."""
    file = folder / f"kernel{len(list(folder.iterdir()))}.py"
    file.write_text(KERNEL.format(expression))
    sass = load_module(file).one.compile(("f32[1]",) * 3, target="sm_90a").asm["sass"]
    opcodes = re.findall(r"\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9]*)", sass)
    found = Counter(pipe for o in opcodes for pipe, names in PIPES.items() if o in names)
    return Counter({pipe: n / EACH for pipe, n in found.items()})  # type: ignore[misc]


@pytest.mark.slow
@pytest.mark.skipif(
    not (toolchain.find("ptxas") and toolchain.find("nvdisasm")), reason="needs pip install 'tilec[test]'"
)
@pytest.mark.parametrize(
    ("name", "expression"),
    [
        ("exp", "tl.exp(x)"), ("exp2", "tl.exp2(x)"), ("log", "tl.log(x)"), ("log2", "tl.log2(x)"),
        ("rsqrt", "tl.rsqrt(x)"), ("sin", "tl.sin(x)"), ("cos", "tl.cos(x)"), ("floor", "tl.floor(x)"),
        ("maximum", "tl.maximum(x, x * 2)"),
    ],
)  # fmt: skip
def test_the_table_has_what_ptxas_makes(name: str, expression: str, tmp_path: Path) -> None:
    with_op, without = (counted(e, tmp_path) for e in (f"{expression} + z", "x + z"))
    row = _WORK.get(name, (0, 1, 0))
    extra = 1 if name == "maximum" else 0  # the product that makes a second operand
    assert [with_op[p] - without[p] for p in PIPES] == [row[0] + extra, *row[1:]]
