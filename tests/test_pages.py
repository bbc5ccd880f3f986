"""What README.md and docs/ show is what happens."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from tilec.cli import main
from tilec.load import load_kernel
from tilec.passes import lower

ROOT = Path(__file__).parents[1]
GEMM, ATTENTION = (ROOT / "examples" / f"{name}.py" for name in ("gemm", "attention"))


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.M | re.S)


def execute(code: str, folder: Path, **names: Any) -> dict[str, Any]:
    """Run a block as a module of its own file: kernels need their source."""
    file = folder / "block.py"
    file.write_text(code, encoding="utf-8")
    space = {"__name__": "block", **names}
    exec(compile(code, str(file), "exec"), space)
    return space


def test_the_kernel_of_the_readme(tmp_path: Path) -> None:
    [code] = blocks("README.md", "python")
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(s).astype(np.float16) for s in ((100, 70), (70, 300)))
    c = np.full((100, 300), np.nan, np.float16)
    made = execute(code, tmp_path, A=a, B=b, C=c, M=100, N=300)
    np.testing.assert_allclose(c, a.astype(float) @ b.astype(float), rtol=2e-3, atol=2e-2)
    assert ".target sm_90a" in made["ptx"] and "wgmma" in made["ptx"]


def test_the_block_of_the_emulator_page(tmp_path: Path) -> None:
    [code] = blocks("docs/emulator.md", "python")
    made = execute(code, tmp_path)
    assert made["outcome"].reports == () and made["outcome"].steps > 0
    assert np.array_equal(made["y"], 2 * made["x"])


def test_the_block_of_the_scheduling_page(tmp_path: Path) -> None:
    [code] = blocks("docs/scheduling.md", "python")
    from tilec.load import load_module

    space = execute(code, tmp_path, gemm=load_module(GEMM).gemm)
    assert len(space["compiled"].schedule) == len(space["compiled"].scheduled.attrs["schedule"]) == 1


@pytest.mark.parametrize(
    ("kernel", "signature", "defines"),
    [
        (f"{GEMM}:gemm", "f16[2],f16[2],f16[2]", ()),
        (f"{ATTENTION}:attention", ",".join(["f16[4]"] * 4), ("D=128", "causal=True")),
        (f"{ATTENTION}:attention", ",".join(["f16[4]"] * 4), ("D=32", "causal=True")),
    ],
)
def test_the_log_of_the_scheduling_page(
    kernel: str, signature: str, defines: tuple[str, ...], real_budget: None
) -> None:
    shown = [line for block in blocks("docs/scheduling.md", "text") for line in block.splitlines()]
    log = lower(load_kernel(kernel, signature, defines)).log
    lines = [x for x in log if x.startswith(("schedule of", "exponentials of"))]
    assert lines and set(lines) <= set(shown)


def test_the_example_of_the_error_page(tmp_path: Path) -> None:
    [shown] = blocks("docs/errors.md", "text")
    file = tmp_path / "wrong.py"
    body = re.findall(r"^   \| (tl\..*)$", shown, flags=re.M)[0]
    head = "import tilec, tilec.language as tl\n\n\n@tilec.kernel\ndef wrong(X: tl.Tensor, Y: tl.Tensor):\n\n"
    file.write_text(f"{head}    {body}\n")
    done = CliRunner().invoke(main, ["ir", f"{file}:wrong", "--signature", "f32[1],f32[1]"])
    assert done.exit_code == 1
    assert done.output.replace(f"{tmp_path}/", "") == shown


def test_the_commands_of_the_command_line_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    [lines] = blocks("docs/command-line.md", "sh")
    for line in lines.splitlines():
        command, _, file = line.partition(" > ")
        done = CliRunner().invoke(main, shlex.split(command)[1:])
        assert done.exit_code == 0, f"{line}\n{done.output}"
        if file:
            Path(file).write_text(done.output)
    assert (tmp_path / "out" / "gemm.ptx").exists()
