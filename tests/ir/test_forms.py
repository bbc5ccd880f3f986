# ruff: noqa: E501
"""verify() catches each broken rule: one mutation of a good kernel per case."""

from __future__ import annotations

import pytest
from ir_texts import AREF, TILE, product, rings

from tilec.ir.core import Block, Kernel, Op, Value
from tilec.ir.errors import InternalError
from tilec.ir.forms import COMMON, FORMS, verify
from tilec.ir.loc import Loc
from tilec.ir.text import parse_kernel
from tilec.ir.types import ArefType, TileType, float16, int32

SCHEDULED = product()
GOOD = {
    "tile": TILE, "aref": AREF, "lag 0": product(1, 0), "lag 1": product(2, 1), "lag 2": product(3, 2),
    "3 consumers": rings(2, 3), "kept": rings(4, 2, 3), "one group": AREF.replace("form=aref", "form=scheduled")
    .replace("tile<4x4xfloat16>)}", "tile<4x4xfloat16>), depth=1}").replace("float16>>", "float16>, depth=1>"),
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_good_kernels_pass(name: str) -> None:
    verify(parse_kernel(GOOD[name]))


def refused(kernel: Kernel, code: str) -> InternalError:
    with pytest.raises(InternalError) as caught:
        verify(kernel)
    assert caught.value.code == code, str(caught.value)
    return caught.value


# (code, kernel, text before, text after)
GET = "%x, %y = aref.get %ring : tile<4x4xfloat16, smem>, tile<4x4xfloat16, smem>"
PUT = '    aref.put %ring, %a, %b {group="load"}\n'
RELEASE = '    aref.release %ring {group="compute"}\n'
WAIT = "      %w = dot.wait %d {pending=1} : tile<4x4xfloat32>\n"
MUTANTS = {
    "unknown form": ("X200", TILE, "form=tile", "form=tiles"),
    "ring in tile": ("X201", AREF, "form=aref", "form=tile"),
    "wait in aref": ("X201", SCHEDULED, "form=scheduled", "form=aref"),
    "attribute missing": ("X202", TILE, " {shape=(4,)}", ""),
    "attribute unknown": ("X202", TILE, "{shape=(4,)}", "{shape=(4,), colour=1}"),
    "block missing": ("X202", TILE, "  yield\n}\n", "  if %zero {\n  ^():\n    yield\n  }\n  yield\n}\n"),
    "tile parameter": ("X207", TILE, "%n: tile<int32>", "%n: tile<4xint32>"),
    "no yield": ("X205", TILE, "    yield %next\n", ""),
    "no last yield": ("X205", TILE, "  yield\n}\n", "}\n"),
    "yield in the middle": ("X205", TILE, "    %next =", "    yield %acc\n    %next ="),
    "kernel yields a value": ("X205", TILE, "  yield\n}\n", "  yield %zero\n}\n"),
    "group yields a value": ("X205", SCHEDULED, "    }\n    yield\n", "    }\n    yield %zero\n"),
    "use outside of the loop": ("X204", TILE, "store %C, %total", "store %C, %next"),
    "use of a loop parameter": ("X204", TILE, "store %C, %total, %zero", "store %C, %total, %i"),
    "use across groups": ("X204", SCHEDULED, "store %C, %done, %zero", "store %C, %done, %i"),
    "wrong result type": ("X206", TILE, "%next = add %acc, %a : tile<4xint32>", "%next = add %acc, %a : tile<4xint16>"),
    "wrong carried type": ("X206", TILE, "shape=(4,), value=0} : tile<4xint32>", "shape=(8,), value=0} : tile<8xint32>"),
    "refused operands": ("X206", TILE, "%next = add %acc, %a", "%next = add %acc, %i"),
    "too few operands": ("X206", TILE, "%next = add %acc, %a", "%next = add %acc"),
    "put of other tiles": ("X206", AREF, "put %ring, %a, %b", "put %ring, %a"),
    "space lost": ("X206", AREF, "{perm=(1, 0)} : tile<4x4xfloat16, smem>", "{perm=(1, 0)} : tile<4x4xfloat16>"),
    "asynchronous dot": ("X208", AREF, "dot %x, %yt, %acc :", "dot %x, %yt, %acc {asynchronous=True} :"),
    "asynchronous in tile": (
        "X208", TILE, "    yield %next", "    %q = const {dtype=int32, shape=(2, 2), value=1} : tile<2x2xint32>\n"
        "    %p = dot %q, %q, %q {asynchronous=True} : tile<2x2xint32>\n    yield %next",
    ),
    "ring carried": ("X210", AREF, "  yield\n}\n", "  if %c {\n  ^():\n    yield %ring\n  ^():\n    yield %ring\n  }\n  yield\n}\n"),
    "no put": ("X211", AREF, PUT, ""),
    "two puts": ("X211", AREF, PUT, PUT * 2),
    "no release": ("X211", AREF, RELEASE, ""),
    "two releases": ("X211", AREF, RELEASE, RELEASE * 2),
    "release outside": ("X213", AREF, RELEASE + "    yield %d\n  }\n", "    yield %d\n  }\n" + RELEASE),
    "get before put": ("X214", AREF, PUT, ""),
    "keep in aref": ("X216", AREF, 'release %ring {group="compute"}', 'release %ring {group="compute", keep=1}'),
    "use after release": ("X215", AREF, "    %d = dot %x", RELEASE + "    %d = dot %x"),
    "borrowed tile escapes": ("X215", AREF, "", ""),
    "two warp_groups": ("X220", SCHEDULED, "", ""),
    "nested warp_groups": ("X220", SCHEDULED, "", ""),
    "store outside": ("X221", SCHEDULED, "  warp_groups", "  store %C, %start, %zero, %zero\n  warp_groups"),
    "no depth": ("X222", SCHEDULED, "", ""),
    "puts of two groups": ("X223", SCHEDULED, "", ""),
    "never read": ("X224", rings(2), "", ""),
    "never filled": ("X224", SCHEDULED, "      aref.put %ring, %a, %b\n", ""),
    "keeps a whole ring": ("X225", product(2, 1), "keep=1", "keep=2"),
    "keeps less than none": ("X225", SCHEDULED, "keep=1", "keep=-1"),
    "get without a free slot": ("X226", product(2, 1), f"      {GET}\n", f"      {GET}\n      {GET.replace('x', 'u', 1).replace('%y', '%v')}\n"),
    "release of nothing": ("X226", SCHEDULED, "    %total = for", "    aref.release %ring\n    %total = for"),
    "release before the wait": ("X227", SCHEDULED, WAIT + "      aref.release %ring {keep=1}\n", "      aref.release %ring {keep=1}\n" + WAIT.replace("pending=1", "pending=2")),
    "release of a running read": ("X227", SCHEDULED, "keep=1", "keep=0"),
    "too many pending": ("X227", SCHEDULED, "pending=1", "pending=2"),
    "no wait before the drain": ("X227", SCHEDULED, "", ""),
    "result used while running": ("X228", SCHEDULED, "    %done =", "    %early = neg %total : tile<4x4xfloat32>\n    %done ="),
    "running result in arithmetic": ("X228", SCHEDULED, WAIT, "      %e = add %d, %d : tile<4x4xfloat32>\n" + WAIT),
    "never released": ("X229", SCHEDULED, "    aref.release %ring {keep=0}\n", ""),
    "released on one path": ("X226", SCHEDULED, "", ""),
}  # fmt: skip


def mutant(name: str) -> tuple[str, str]:
    code, text, old, new = MUTANTS[name]
    if name in SPECIAL:
        return code, SPECIAL[name]
    assert text.count(old) >= 1 and old, f"the mutation {name} changes nothing"
    return code, text.replace(old, new)


def _swap(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new)


EMPTY_GROUPS = """\
  warp_groups {names=("a",), warps=(4,), registers=(40,)} {
  ^():
    yield
  }
"""
SPECIAL = {
    "get before put": _swap(
        _swap(AREF, PUT, ""), "    %yt = ", PUT + "    %yt = "
    ),
    "use after release": _swap(_swap(AREF, RELEASE, ""), "    %d = dot", RELEASE + "    %d = dot"),
    "borrowed tile escapes": _swap(
        AREF, "    aref.release",
        "    %c = lt %k, %n : tile<bool>\n    %e = if %c : tile<4x4xfloat16, smem> {\n    ^():\n      yield %x\n"
        "    ^():\n      yield %y\n    }\n    aref.release",
    ),
    "ring carried": _swap(
        AREF, "  yield\n}\n", "  aref.put %other, %ring\n  yield\n}\n",
    ).replace("  %total = for", "  %other = aref.new {payload=()} : aref<>\n  %total = for"),
    "two warp_groups": _swap(SCHEDULED, "  }\n  yield\n}\n", "  }\n" + EMPTY_GROUPS + "  yield\n}\n"),
    "nested warp_groups": _swap(
        SCHEDULED, "    store %C", "  " + EMPTY_GROUPS.replace("\n", "\n  ").rstrip() + "\n    store %C"
    ),
    "no depth": SCHEDULED.replace(", depth=3}", "}").replace(", depth=3>", ">"),
    "puts of two groups": _swap(SCHEDULED, "    %done =", "    %z = load %A, %zero, %zero {shape=(4, 4)} : tile<4x4xfloat16>\n    aref.put %ring, %z, %z\n    %done ="),
    "never read": _swap(rings(2), "  warp_groups", "  %lost = aref.new {payload=(tile<int32>,), depth=1} : aref<tile<int32>, depth=1>\n  warp_groups"),
    "no wait before the drain": _swap(
        _swap(SCHEDULED, "    %done = dot.wait %total {pending=0} : tile<4x4xfloat32>\n    aref.release %ring {keep=0}\n", ""),
        "    store %C", "    aref.release %ring {keep=0}\n    %done = dot.wait %total {pending=0} : tile<4x4xfloat32>\n    store %C",
    ),
    "released on one path": _swap(
        rings(2), "      aref.release %ring {keep=0}\n",
        "      %c = lt %i0, %four : tile<bool>\n      if %c {\n      ^():\n        aref.release %ring\n        yield\n"
        "      ^():\n        yield\n      }\n",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTANTS)
def test_mutants_are_refused(name: str) -> None:
    code, text = mutant(name)
    refused(parse_kernel(text), code)


def test_every_code_has_a_mutant() -> None:
    by_hand = {"X203"}
    codes = {code for code, *_ in MUTANTS.values()} | by_hand
    assert codes == {f"X{n}" for n in (*range(200, 209), *range(210, 217), *range(220, 230)) if n != 212}


def test_a_value_defined_twice() -> None:
    value = Value(TileType(int32), "x")
    op = Op("const", attrs={"dtype": int32, "shape": (), "value": 1}, results=(value,))
    kernel = Kernel("k", (), Block((), (op, op, Op("yield"))))
    assert "(x) is defined twice" in str(refused(kernel, "X203"))


def test_a_parameter_that_nobody_defines() -> None:
    kernel = Kernel(
        "k",
        (),
        Block((), (Op("neg", (Value(TileType(int32)),), results=(Value(TileType(int32)),)), Op("yield"))),
    )
    assert "defined nowhere" in str(refused(kernel, "X204"))


def test_an_op_that_is_not_in_the_table() -> None:
    refused(Kernel("k", (), Block((), (Op("frobnicate"), Op("yield")))), "X201")


def test_rings_are_no_parameters() -> None:
    ring = Value(ArefType((TileType(float16, (4,)),)), "r")
    refused(Kernel("k", (ring,), Block((), (Op("yield"),)), "aref"), "X207")


def test_the_message_shows_the_guilty_line() -> None:
    text = TILE.replace(
        "%next = add %acc, %a : tile<4xint32>", '%next = add %acc, %a : tile<4xint16> loc("k.py":7:3)'
    )
    message = str(refused(parse_kernel(text), "X206"))
    assert "  >     %next = add %acc, %a : tile<4xint16>\n" in message
    assert "    %a = load %A, %i" in message and "k.py:7:3" in message and "kernel sums" in message


def test_the_location_is_the_ops() -> None:
    here = Loc("kernel.py", 3, 4, 9)
    kernel = Kernel("k", (), Block((), (Op("nothing", loc=here), Op("yield"))))
    assert refused(kernel, "X201").loc is here


def test_rules_are_documented_and_shared() -> None:
    for rules in FORMS.values():
        assert rules[: len(COMMON)] == COMMON
        assert all(rule.__doc__ for rule in rules)
