"""NVIDIA's assembler and disassembler: where they are, and what they say.

They come from the wheels ``nvidia-cuda-nvcc`` and ``nvidia-cuda-nvdisasm`` (the extra
``test``); an environment variable names another one; the PATH is the last resort.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from tilec.ir.errors import InternalError, UnsupportedError
from tilec.ir.loc import Loc
from tilec.runtime.config import config

_WHEELS = {
    "ptxas": ("nvidia-cuda-nvcc", "nvidia-cuda-nvcc-cu12"),
    "nvdisasm": ("nvidia-cuda-nvdisasm", "nvidia-cuda-nvcc"),
    "cuobjdump": ("nvidia-cuda-cuobjdump", "nvidia-cuda-nvcc"),
}
_TIMEOUT = 120

# Information messages that mean a slower or different kernel than was asked for.
SERIOUS = re.compile(r"C75(0[4-9]|1[0-5]|17|19|20)")


@dataclass(frozen=True)
class Tool:
    """A program and where it was found: "environment", "wheel" or "path"."""

    path: Path
    origin: str


@dataclass(frozen=True)
class Message:
    """One line of the assembler. ``code`` is like "C7508" or "", ``line`` a line of the PTX
    text or 0. ``serious`` ones say that the assembler dropped or serialized something."""

    severity: str
    code: str
    text: str
    line: int = 0

    @property
    def serious(self) -> bool:
        return bool(SERIOUS.fullmatch(self.code))


@dataclass(frozen=True)
class Assembly:
    """The result of assembling. ``registers`` is per thread, sizes are in bytes; ``smem`` is
    the statically declared shared memory, ``stack`` the local memory of a thread."""

    cubin: bytes
    registers: int
    spill_stores: int
    spill_loads: int
    smem: int
    stack: int
    messages: tuple[Message, ...]


def find(name: str) -> Tool | None:
    """The tool of that name, or None. ``TILEC_PTXAS`` (and so on) wins, then the wheel."""
    variable = f"TILEC_{name.upper()}"
    given = getattr(config(), name)
    if given:
        if not os.access(given, os.X_OK):
            raise UnsupportedError(
                "U411",
                f"{variable} is {str(given)!r}, which is no program",
                help=f"unset {variable} or mend it",
            )
        return Tool(given, "environment")
    wheel = _in_wheels(name)
    if wheel is not None:
        return Tool(wheel, "wheel")
    found = shutil.which(name)
    return Tool(Path(found), "path") if found else None


def need(name: str) -> Tool:
    """The tool, or an UnsupportedError that says how to get it."""
    tool = find(name)
    if tool is None:
        raise UnsupportedError(
            "U410",
            f"{name} was not found",
            help=f"pip install 'tilec[test]', or set TILEC_{name.upper()} to its path",
        )
    return tool


def _in_wheels(name: str) -> Path | None:
    for wheel in _WHEELS[name]:
        try:
            listed = files(wheel) or []
        except PackageNotFoundError:
            continue
        for file in listed:
            if file.stem == name and file.parent.name == "bin" and file.suffix in ("", ".exe"):
                path = Path(str(file.locate()))
                if os.access(path, os.X_OK):
                    return path
    return None


def assemble(ptx: str, target: str, *, options: tuple[str, ...] = ()) -> Assembly:
    """Assemble PTX text. InternalError, with the PTX line and its kernel source, if the
    assembler refuses it: the text is ours, so a refusal is our fault."""
    tool = need("ptxas")
    with tempfile.TemporaryDirectory(prefix="tilec-") as folder:
        source, cubin = Path(folder, "kernel.ptx"), Path(folder, "kernel.cubin")
        source.write_text(ptx, encoding="utf-8")
        command = [str(tool.path), "-v", f"-arch={target}", *options, str(source), "-o", str(cubin)]
        done = _run(command)
        messages = parse_messages(done.stderr + done.stdout)
        if done.returncode != 0 or not cubin.exists():
            raise _refused(ptx, messages, done.stderr or done.stdout)
        return _result(cubin.read_bytes(), done.stderr + done.stdout, messages)


def disassemble(cubin: bytes, *, hex: bool = False) -> str:
    """The SASS text of a cubin, with the encoding of each instruction if ``hex``."""
    tool = need("nvdisasm")
    with tempfile.TemporaryDirectory(prefix="tilec-") as folder:
        path = Path(folder, "kernel.cubin")
        path.write_bytes(cubin)
        done = _run([str(tool.path), "-c", *(["-hex"] if hex else []), str(path)])
    if done.returncode != 0:
        raise InternalError("X411", f"nvdisasm failed: {done.stderr.strip()[:500]}")
    return done.stdout


def tool_version(tool: Tool) -> str:
    """The release that the tool reports, such as "13.5.37"."""
    found = re.search(r"V(\d+\.\d+\.\d+)", _run([str(tool.path), "--version"]).stdout)
    return found[1] if found else "unknown"


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        raise InternalError("X412", f"{command[0]} ran longer than {_TIMEOUT} s") from None
    except OSError as error:
        raise UnsupportedError("U412", f"cannot run {command[0]}: {error}") from None


_MESSAGE = re.compile(
    r"ptxas\s+(?:\S+,\s+line\s+(?P<line>\d+);\s+)?(?P<severity>info|warning|error|fatal)\s*:\s*"
    r"(?:\((?P<code>C\d+)\)\s*)?(?P<text>.*)"
)


def parse_messages(output: str) -> tuple[Message, ...]:
    """The assembler's lines as messages; lines of another form are left out."""
    found = (_MESSAGE.match(line.strip()) for line in output.splitlines())
    return tuple(
        Message(m["severity"], m["code"] or "", m["text"].strip(), int(m["line"] or 0)) for m in found if m
    )


def _result(cubin: bytes, output: str, messages: tuple[Message, ...]) -> Assembly:
    def number(pattern: str) -> int:
        return max((int(n) for n in re.findall(pattern, output)), default=0)

    return Assembly(
        cubin,
        registers=number(r"Used (\d+) registers"),
        spill_stores=number(r"(\d+) bytes spill stores"),
        spill_loads=number(r"(\d+) bytes spill loads"),
        smem=number(r"(\d+) bytes smem"),
        stack=number(r"(\d+) bytes stack frame"),
        messages=messages,
    )


def _refused(ptx: str, messages: tuple[Message, ...], output: str) -> InternalError:
    errors = [m for m in messages if m.severity in ("error", "fatal")]
    first = next((m for m in errors if m.line), errors[0] if errors else None)
    if first is None:
        return InternalError("X410", f"ptxas failed: {output.strip()[:500]}")
    where = ""
    lines = ptx.splitlines()
    if 0 < first.line <= len(lines):
        where = f" at PTX line {first.line}: {lines[first.line - 1].strip()[:120]}"
    return InternalError("X410", f"ptxas: {first.text}{where}", loc=source_of(ptx, first.line))


def source_of(ptx: str, line: int) -> Loc | None:
    """The kernel source of a PTX line, by the .loc above it; None where there is none."""
    names = {int(n): name for n, name in re.findall(r'\.file\s+(\d+)\s+"([^"]*)"', ptx)}
    for text in reversed(ptx.splitlines()[:line]):
        found = re.match(r"\s*\.loc\s+(\d+)\s+(\d+)\s+(\d+)", text)
        if found:
            return Loc(names.get(int(found[1]), "<unknown>"), int(found[2]), max(int(found[3]) - 1, 0))
    return None
