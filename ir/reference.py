"""`python -m tilec.ir.reference` prints docs/ir.md from the op table and the forms' rules."""

from __future__ import annotations

from collections.abc import Iterator

from tilec.ir.errors import TilecError
from tilec.ir.forms import COMMON, FORMS, Rule
from tilec.ir.loc import UNKNOWN
from tilec.ir.ops import OPS, OpDef, result_types
from tilec.ir.text import print_attr
from tilec.ir.types import DTYPES, TileType

FAMILIES = {
    "grid": "The launch grid and tensor arguments",
    "memory": "Memory",
    "create": "Making tiles",
    "shape": "Shapes",
    "elementwise1": "Elementwise, one operand",
    "elementwise2": "Elementwise, two operands",
    "elementwise3": "Elementwise, three operands",
    "compare": "Comparisons",
    "cast": "Conversions",
    "reduce": "Reductions",
    "dot": "Products",
    "control": "Control flow",
    "aref": "Rings and warp groups",
}

INTRODUCTION = """\
# The IR

<!-- Written by `python -m tilec.ir.reference > docs/ir.md`; change the op table instead. -->

A kernel is a list of ops. Every op computes values once, from values above it; `for`,
`while`, `if` and `warp_groups` hold blocks, which end with `yield`. `tilec ir` prints a
kernel as text, and `tilec.ir.text.parse_kernel` reads it back:

```
tilec.kernel @sums form=tile (%A: tensor<float32, 1, contiguous=0>, %n: tile<int32>) {
  %zero = const {dtype=int32, shape=(), value=0} : tile<int32>
  %one = const {dtype=int32, shape=(), value=1} : tile<int32>
  %start = const {dtype=float32, shape=(4,), value=0.0} : tile<4xfloat32>
  %total = for %zero, %n, %one, %start : tile<4xfloat32> {
  ^(%i: tile<int32>, %acc: tile<4xfloat32>):
    %a = load %A, %i {shape=(4,)} : tile<4xfloat32>
    %next = add %acc, %a : tile<4xfloat32>
    yield %next
  }
  store %A, %total, %zero
  yield
}
```

A line is: results, `=`, the op, operands, attributes in braces, `:` and the results' types.
Blocks follow in braces, each with its parameters after `^`. With locations printed, an op
ends with `loc("file":line:first-last)`. `//` starts a comment.
"""

TYPES = """\
## Types

- `tile<128x64xfloat16>`: a tile; `tile<int32>` is a scalar. `, smem` tells the memory space
  if it is not registers; a layout comes last.
- `tensor<float16, 2, contiguous=1>`: a tensor argument of rank 2 whose axis 1 has stride 1
  (`?`: no axis has); `, unaligned` if its address is not known to be a multiple of 16 bytes,
  `, divisible` if the extent of that axis is known to be one.
- `aref<tile<...>, tile<...>, depth=3>`: a ring of slots, each of which holds these tiles.

The dtypes are {dtypes}.
"""

OPS_HEAD = """\
## Ops

The last column has the attributes (with defaults, if they may be left out), then the effect:
`pure` ops may be copied, merged and removed; `read` ops removed, and copied if the kernel
never writes that tensor; the others stay, in order.
"""


def reference() -> str:
    """The page as Markdown."""
    parts = [INTRODUCTION, TYPES.format(dtypes=", ".join(f"`{d}`" for d in DTYPES)), OPS_HEAD]
    parts += ["\n".join(_family(family, title)) for family, title in FAMILIES.items()]
    parts.append("\n".join(_forms()))
    return "\n".join(parts)


def _family(family: str, title: str) -> Iterator[str]:
    yield f"### {title}\n"
    yield "| op | meaning | facts |\n|---|---|---|"
    yield from (_row(row) for row in OPS.values() if row.family == family)
    yield ""


def _row(row: OpDef) -> str:
    operands = ", ".join(f"%{o}" for o in row.operands)
    signature = f"`{row.name} {operands}`" if operands else f"`{row.name}`"
    meaning = " ".join(row.doc.split()).replace("``", "`").replace("|", "\\|")
    facts = "; ".join([*_attributes(row), row.effect, *_dtypes(row), *_only(row)])
    return f"| {signature} | {meaning} | {facts} |"


def _attributes(row: OpDef) -> Iterator[str]:
    known = [*row.attrs, *(f"{k}={print_attr(v)}" for k, v in (row.optional or {}).items())]
    if known:
        yield "{" + ", ".join(known) + "}"
    if row.blocks:
        yield "a block per group" if row.blocks < 0 else f"blocks: {row.blocks}"


def _dtypes(row: OpDef) -> Iterator[str]:
    """Which kinds of numbers an elementwise op takes, by asking its type rule."""
    if not row.family.startswith(("elementwise", "compare")) or row.name == "where":
        return
    kinds = {d.kind: None for d in DTYPES.values() if _takes(row, TileType(d))}
    yield f"takes {', '.join(kinds)}"


def _takes(row: OpDef, t: TileType) -> bool:
    try:
        result_types(row.name, (t,) * len(row.operands), {}, (), UNKNOWN)
    except TilecError:
        return False
    return True


def _only(row: OpDef) -> Iterator[str]:
    if row.forms != frozenset(FORMS):
        yield f"in {', '.join(f for f in FORMS if f in row.forms)}"


def _forms() -> Iterator[str]:
    yield "## Forms\n"
    yield "`tilec.ir.forms.verify` runs these rules before and after every pass.\n"
    yield from _rules("Every form", COMMON)
    for name, rules in FORMS.items():
        yield from _rules(f"form={name}", rules[len(COMMON) :])


def _rules(title: str, rules: tuple[Rule, ...]) -> Iterator[str]:
    yield f"### {title}\n"
    for rule in rules:
        first = (rule.__doc__ or "").strip().splitlines()[0]
        yield f"- {first}"
    yield ""


def main() -> None:
    """Print the page."""
    print(reference(), end="")


if __name__ == "__main__":
    main()
