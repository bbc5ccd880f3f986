"""The textual form: round trips, names, locations, and errors that show the place."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ir_texts import AREF, TILE, product, rings

from tilec.ir.core import Block, Kernel, Op, Value, frozen
from tilec.ir.errors import InternalError, TilecSyntaxError
from tilec.ir.layout import blocked, wgmma
from tilec.ir.loc import Loc
from tilec.ir.text import parse_kernel, print_attr, print_kernel
from tilec.ir.types import DTYPES, ArefType, TensorType, TileType, float16, float32, int32


@pytest.mark.parametrize("text", [TILE, AREF, product(), rings(2, 3, 1)])
def test_round_trip(text: str) -> None:
    printed = print_kernel(parse_kernel(text))
    assert print_kernel(parse_kernel(printed)) == printed
    assert [line.split(" {")[0] for line in printed.splitlines()] == [
        line.split(" {")[0] for line in text.splitlines()
    ]


def kernel_with(value: Any) -> Kernel:
    op = Op("assume", (), frozen(x=value))
    return Kernel("k", (), Block((), (op, Op("yield"))))


def returned(value: Any) -> Any:
    text = print_kernel(kernel_with(value))
    kernel = parse_kernel(text)
    assert print_kernel(kernel) == text
    return kernel.body.ops[0].attrs["x"]


tiles = st.builds(
    TileType,
    st.sampled_from(list(DTYPES.values())),
    st.lists(st.integers(1, 512), max_size=3).map(tuple),
    st.sampled_from(["reg", "smem", "tmem"]),
    st.sampled_from([None, blocked((16, 16), 1, 2, 4), wgmma(64, 16, 4)]),
)
types = (
    tiles
    | st.builds(
        TensorType,
        st.sampled_from(list(DTYPES.values())),
        st.integers(0, 5),
        st.none() | st.integers(0, 4),
        st.booleans(),
    )
    | st.builds(ArefType, st.lists(tiles, max_size=3).map(tuple), st.none() | st.integers(1, 9))
)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | types
    | st.sampled_from(list(DTYPES.values())),
    lambda inner: st.lists(inner, max_size=4).map(tuple),
    max_leaves=8,
)  # fmt: skip


@given(plain)
def test_plain_data_returns_equal(value: Any) -> None:
    assert returned(value) == value


@pytest.mark.parametrize("value", [True, 1, 1.0, -0.0, 0.0, 1e-300, 1e22, 5e-324, math.inf, -math.inf, 2**80])
def test_numbers_keep_their_type_and_sign(value: Any) -> None:
    found = returned(value)
    assert (
        found == value and type(found) is type(value) and math.copysign(1, found) == math.copysign(1, value)
    )


@pytest.mark.parametrize("sign", [1, -1])
def test_nan_keeps_its_sign(sign: int) -> None:
    found = returned(math.copysign(math.nan, sign))
    assert math.isnan(found) and math.copysign(1, found) == sign


def test_mappings_and_lists() -> None:
    assert returned({"a": 1, "b": (2,)}) == {"a": 1, "b": (2,)}
    assert returned([1, 2]) == (1, 2)


def test_layouts_return_equal() -> None:
    layout = wgmma(64, 32, 4)
    assert returned(layout) == layout
    assert returned((layout, 1)) == (layout, 1)


def test_what_is_not_plain_is_refused_in_ops_and_left_out_of_kernels() -> None:
    with pytest.raises(InternalError, match="X230"):
        print_attr(object())
    kernel = Kernel("k", (), Block((), (Op("yield"),)), attrs=frozen(secret=object(), num_warps=4))
    assert print_kernel(kernel).startswith("tilec.kernel @k form=tile {num_warps=4} () {")


def test_names_are_hints_made_unique() -> None:
    hints = ["acc", "acc", "acc_1", "", "", "1x", "a b", "acc"]
    ops = [Op("const", results=(Value(TileType(int32), h),)) for h in hints]
    text = print_kernel(Kernel("k", (), Block((), (*ops, Op("yield")))))
    names = [line.split()[0] for line in text.splitlines()[1:-2]]
    assert names == ["%acc", "%acc_1", "%acc_1_1", "%0", "%1", "%_1x", "%a_b", "%acc_2"]
    assert print_kernel(parse_kernel(text)) == text


@pytest.mark.parametrize("name", ["gemm", "<lambda>", 'a"b\\c', "größe", ""])
def test_kernel_names(name: str) -> None:
    assert parse_kernel(print_kernel(Kernel(name, (), Block((), (Op("yield"),))))).name == name


LOCS = [
    Loc("a.py", 3),
    Loc("a.py", 3, 4, 9),
    Loc('we"ird\n.py', 3, 4, 9, "kernel"),
    Loc("a.py", 3, 4, 9, "f", Loc("b.py", 1, 0, 2, "g", Loc("c.py", 8))),
    Loc("a.py", 3, 0, 0, "", Loc("b.py", 1)),
]


@pytest.mark.parametrize("loc", LOCS)
def test_locations_return_equal(loc: Loc) -> None:
    loop = Op("while", blocks=(Block((), (Op("yield", loc=loc),)),) * 2, loc=loc)
    kernel = Kernel("k", (), Block((), (loop, Op("yield"))))
    text = print_kernel(kernel, locs=True)
    again = parse_kernel(text)
    assert print_kernel(again, locs=True) == text
    assert again.body.ops[0].loc == loc and again.body.ops[0].blocks[1].ops[0].loc == loc
    assert "loc(" not in print_kernel(kernel)


def test_comments_and_layout_of_the_text_do_not_matter() -> None:
    loose = TILE.replace("\n", "  // a note\n\n").replace(", ", " ,\n   ")
    assert print_kernel(parse_kernel(loose)) == print_kernel(parse_kernel(TILE))


BAD = [
    ("%acc, %a :", "%acc, %oops :", "S208", "no value named %oops"),
    ("%next = add", "%next = plus", "S209", "no op named 'plus'"),
    ("%i: tile<int32>,", "%zero: tile<int32>,", "S207", "defined twice"),
    ("%acc: tile<4xint32>", "%acc: tile<4xint33>", "S205", "no dtype named 'int33'"),
    ("%acc: tile<4xint32>", "%acc: title<4xint32>", "S205", "no type named 'title'"),
    ("%acc: tile<4xint32>", "%acc: tile<4xint32, smem, lay", "S201", "never closed"),
    ("{shape=(4,)}", "{shape=(4,), shape=(4,)}", "S204", "given twice"),
    ("{shape=(4,)}", "{shape=(4,]}", "S201", "expected a value, found ']'"),
    ("{shape=(4,)}", '{shape="\\q"}', "S203", "bad escape"),
    ("{shape=(4,)}", "{shape=" + "(" * 200 + ")" * 200 + "}", "S202", "nesting"),
    ("{shape=(4,)}", "{shape=" + "9" * 5000 + "}", "S203", "too many digits"),
    ("%a : tile<4xint32>\n    yield", "%a\n    yield", "S210", "1 results but 0 types"),
    ("  yield\n}\n", "  yield\n", "S201", "end of the text"),
    ("  yield\n}\n", "  yield\n}\nmore", "S201", "expected the end of the text, found 'more'"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "code", "part"), BAD)
def test_errors_show_the_place(old: str, new: str, code: str, part: str) -> None:
    assert old in TILE
    with pytest.raises(TilecSyntaxError) as caught:
        parse_kernel(TILE.replace(old, new), "sums.ir")
    error = caught.value
    assert error.code == code and part in error.message
    assert error.loc is not None and error.loc.file == "sums.ir" and error.loc.line > 1
    assert "   | " in str(error) and "^" in str(error)


def test_the_column_is_the_guilty_words() -> None:
    with pytest.raises(TilecSyntaxError) as caught:
        parse_kernel("tilec.kernel @k form=tile () {\n  %x = wrong\n}")
    loc = caught.value.loc
    assert loc is not None and (loc.line, loc.col) == (2, 7)


def test_errors_in_a_file_quote_it_once(tmp_path: Path) -> None:
    path = tmp_path / "k.ir"
    path.write_text(TILE.replace("= add", "= plus"))
    with pytest.raises(TilecSyntaxError) as caught:
        parse_kernel(path.read_text(), str(path))
    assert str(caught.value).count("%next = plus") == 1


@given(
    st.integers(0, len(TILE)),
    st.sampled_from(["", "{", "}", "(", "<", "%", '"', "=", "9", "x", "\n", "^", "loc("]),
    st.integers(0, 3),
)
def test_damaged_text_never_crashes(at: int, extra: str, drop: int) -> None:
    try:
        parse_kernel(TILE[:at] + extra + TILE[at + drop :])
    except TilecSyntaxError as error:
        assert str(error)


@given(st.text(alphabet='tilec.kernel@form= (){}%x:<>,0"', max_size=60))
def test_noise_never_crashes(text: str) -> None:
    with pytest.raises(TilecSyntaxError):
        parse_kernel(text)


def test_types_print_as_themselves() -> None:
    assert print_attr(TileType(float16, (128, 64), "smem")) == "tile<128x64xfloat16, smem>"
    assert print_attr(ArefType((TileType(float32, (4,)),), 3)) == "aref<tile<4xfloat32>, depth=3>"
    assert print_attr(TensorType(float16, 2, None, False)) == "tensor<float16, 2, contiguous=?, unaligned>"
    assert print_attr(TensorType(float16, 1, 0, True, True)) == "tensor<float16, 1, contiguous=0, divisible>"
    facts = TensorType(float16, 1, 0, False, True)
    kernel = Kernel("k", (Value(facts, "X"),), Block((), (Op("yield"),)))
    assert parse_kernel(print_kernel(kernel)).params[0].type == facts
