"""Ten thousand malformed lines of PTX: located errors or a run that ends, never a crash or a hang."""

from __future__ import annotations

import random
import re
import sys
from pathlib import Path

import pytest

from tilec.ir.errors import InternalError, TilecError
from tilec.ir.ptx import parse
from tilec.ir.ptx.module import Entry, param_layout
from tilec.runtime.emulator import GlobalMemory, run_ptx

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "tests" / "ir"))

from ptx_lines import HEAD, LINES  # noqa: E402

TOKEN = re.compile(r"%?[A-Za-z_$][\w$]*|0[fFdDxX][0-9A-Fa-f]+|-?\d+|\s+|.")
WORDS = """
0 -1 1 2 7 16 31 33 64 127 255 4096 65536 2147483648 4294967296 99999999999999999999 0xffffffff 0f 0f3F800000
0d7FF0000000000000 1e999 %r1 %p1 %tid.x %tid %laneid % $ _ [ ] { } ( ) < > ; , @ ! . .. :: | " ' /* // - + =
.b64 .v4 .u8 .f64 .x .pred .reg .shared bar.sync ret
"""
JUNK = [*WORDS.split(), "", "\n", "\t", "\x00", "\u00e9"]
NUMBERS = ["0", "1", "-1", "2", "3", "5", "17", "100", "1000000", "4294967295", "18446744073709551616"]
# Codes of errors that belong to no line: no such entry, too much shared memory.
NOWHERE = {"V420", "R420"}


def mutate(rng: random.Random, line: str, lines: list[str]) -> str:
    """The line with one thing wrong; pieces may come from other lines."""
    tokens = TOKEN.findall(line) or [""]
    i, j = rng.randrange(len(tokens)), rng.randrange(len(line) + 1)
    other = rng.choice(lines)
    kind = rng.randrange(12)
    if kind == 0:
        return line[:j]
    if kind == 1:
        return line[:j] + chr(rng.randrange(1, 300)) + line[j:]
    if kind == 2:
        return other
    if kind == 3:
        return f"{line} {other}"
    if kind == 4:
        return re.sub(r"(?<![\w%.])-?\d+", lambda m: rng.choice(NUMBERS), line, count=1)
    if kind == 5:
        k = rng.randrange(len(tokens))
        tokens[i], tokens[k] = tokens[k], tokens[i]
    elif kind == 6:
        del tokens[i]
    elif kind == 7:
        tokens.insert(i, tokens[i])
    else:
        tokens[i] = rng.choice(JUNK) if kind < 10 else rng.choice(TOKEN.findall(other) or [""])
    return "".join(tokens)


def survives(text: str, mode: str) -> str:
    """Parse and run with the parameters as pointers: the code of the error, or "ran"."""
    try:
        module = parse(text)
        entry = next((i for i in module.items if isinstance(i, Entry)), None)
        if entry is None:
            return "no entry"
        memory = GlobalMemory()
        base = memory.add(bytes(1 << 16), 256).to_bytes(8, "little")
        size = param_layout(entry.params)[1]
        params = (base * (size // 8 + 1))[:size]
        run_ptx(module, entry.name, (1,), (64,), params, memory, smem=4096, mode=mode, strict=False,
                limit=10_000)  # fmt: skip
    except InternalError as error:
        raise AssertionError(f"an internal error: {error}") from error
    except TilecError as error:
        where = error.loc is not None or "PTX line" in error.message
        assert where or error.code in NOWHERE, f"an error without a line: {error}"
        return error.code
    return "ran"


def fuzz(texts: list[str], seeds: range) -> dict[str, int]:
    """Spoil one to three lines of a text for each seed, 5 in 3 texts; what became of them."""
    found: dict[str, int] = {}
    for seed in seeds:
        rng = random.Random(seed)
        lines = rng.choice(texts).split("\n")
        spoiled = list(lines)
        for _ in range(rng.choice((1, 1, 1, 2, 2, 3))):
            i = rng.randrange(len(lines))
            spoiled[i] = mutate(rng, lines[i], lines)
        text = "\n".join(spoiled)
        try:
            code = survives(text, rng.choice(("eager", "lazy", "random")))
        except Exception as error:
            error.add_note(f"seed {seed}:\n{text}")
            raise
        found[code] = found.get(code, 0) + 1
    return found


def rules() -> list[str]:
    """Small kernels of warps, copies and barriers."""
    return [p.read_text() for p in sorted((Path(__file__).parent / "emulator_rules").glob("*.ptx"))]


def forms() -> list[str]:
    """A kernel around four lines of the table's tests."""
    found = []
    for (target, version), text in LINES.items():
        lines = [line for line in text.split("\n") if line]
        for i in range(0, len(lines), 4):
            body = "\n".join(lines[i : i + 4])
            found.append(HEAD.format(target=target, version=version, lines=body))
    return found


@pytest.mark.parametrize(
    "texts, start", [(rules, 0), pytest.param(rules, 2500, marks=pytest.mark.slow), (forms, 0)]
)
def test_malformed_lines_are_located_errors(texts, start):
    found = fuzz(texts(), range(start, start + 2500))
    assert sum(found.values()) == 2500
    assert found["ran"] > 50 and found["S402"] > 600 and len(found) > 5


def test_the_texts_are_legal_before():
    for text in forms() + rules():
        parse(text)


@pytest.mark.parametrize("text", [
    "", "\x00", ".version", ".version 8.0\n.target sm_90a\n.entry k() {", "{" * 5000, "(" * 5000,
    "a: " * 5000, ".reg .b32 %r<999999999999>;",
])  # fmt: skip
def test_texts_that_are_no_module(text):
    with pytest.raises(TilecError) as e:
        parse(text)
    assert not isinstance(e.value, InternalError)


def test_a_loop_without_end_stops_at_the_limit():
    text = ".version 8.0\n.target sm_90a\n.address_size 64\n.visible .entry k() {\nl: bra l;\n}"
    with pytest.raises(TilecError) as e:
        run_ptx(text, "k", (1,), (32,), b"", GlobalMemory(), limit=1000)
    assert e.value.code == "D418" and "PTX line 5" in e.value.message
