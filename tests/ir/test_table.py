"""What holds for every row of the op table: names, arity, types, attributes, text, form."""

from __future__ import annotations

import pytest
from op_cases import SHAPE, Case, accepted, all_cases, good_cases, kernel_of, tiles

from tilec.ir.errors import InternalError, TilecError, TilecTypeError
from tilec.ir.forms import FORMS, verify
from tilec.ir.loc import UNKNOWN, Loc
from tilec.ir.ops import OPS, make, result_types
from tilec.ir.text import parse_kernel, print_kernel
from tilec.ir.types import DTYPES, TensorType, TileType, Type, float32, int32

GOOD = good_cases()
# Ops with blocks or rings have no meaning on their own: test_control, test_rings.
IN_CONTEXT = {n for n, row in OPS.items() if row.blocks or row.family == "aref"} | {"yield", "section"}


def test_every_op_has_a_case_or_is_tested_in_context() -> None:
    assert {c.op for c in GOOD} | IN_CONTEXT == set(OPS)


@pytest.mark.parametrize("name", OPS)
def test_a_row_is_complete(name: str) -> None:
    row = OPS[name]
    assert row.name == name and row.family and row.doc.endswith(".")
    assert row.forms and row.forms <= set(FORMS)
    assert not set(row.attrs) & set(row.optional or {})
    assert sum(o.endswith("...") for o in row.operands) <= 1


@pytest.mark.parametrize("case", GOOD, ids=str)
def test_text_and_form(case: Case) -> None:
    kernel = kernel_of(case)
    verify(kernel)
    text = print_kernel(kernel)
    again = parse_kernel(text)
    verify(again)
    assert print_kernel(again) == text
    assert case.op in text


@pytest.mark.parametrize("name", sorted(set(OPS) - {"warp_groups", "for", "while", "if"}))
def test_arity(name: str) -> None:
    row = OPS[name]
    case = next((c for c in GOOD if c.op == name), Case(name, (), dict.fromkeys(row.attrs, ())))
    fixed = sum(not o.endswith("...") for o in row.operands)
    some: tuple[Type, ...] = case.types or (TileType(int32),) * fixed
    wrong = [some[: fixed - 1]] if fixed else []
    wrong += [(*some, TileType(int32))] if fixed == len(row.operands) else []
    for types in wrong:
        with pytest.raises(TilecTypeError) as caught:
            result_types(name, types, case.attrs, (), UNKNOWN)
        assert caught.value.code == "T106" and name in caught.value.message


@pytest.mark.parametrize("name", OPS)
def test_attributes_are_checked(name: str) -> None:
    row = OPS[name]
    attrs = dict.fromkeys(row.attrs, 0)
    with pytest.raises(InternalError, match="X102"):
        result_types(name, (), {**attrs, "colour": 1}, (), UNKNOWN)
    for missing in row.attrs:
        rest = {k: v for k, v in attrs.items() if k != missing}
        with pytest.raises(InternalError, match="X102"):
            result_types(name, (), rest, (), UNKNOWN)


@pytest.mark.parametrize("case", [c for c in all_cases() if not accepted(c)], ids=str)
def test_refused_types_are_tilec_errors_with_a_sentence(case: Case) -> None:
    where = Loc("kernel.py", 7)
    with pytest.raises(TilecError) as caught:
        result_types(case.op, case.types, case.attrs, (), where)
    assert caught.value.code[0] in "TV" and len(caught.value.message) > 10
    assert caught.value.loc is where


@pytest.mark.parametrize("case", [c for c in GOOD if c.types], ids=str)
def test_an_operand_of_another_kind_or_shape_is_refused(case: Case) -> None:
    """Each operand in turn becomes a tensor, a tile of 5 elements, or of an unusual shape."""
    for i, old in enumerate(case.types):
        other: Type = TensorType(float32, 4) if isinstance(old, TileType) else TileType(float32, (5,))
        types = (*case.types[:i], other, *case.types[i + 1 :])
        with pytest.raises(TilecTypeError):
            result_types(case.op, types, case.attrs, (), UNKNOWN)


@pytest.mark.parametrize(
    "name", [n for n, r in OPS.items() if r.family in ("elementwise2", "elementwise3", "compare")]
)
def test_elementwise_operands_agree(name: str) -> None:
    row = OPS[name]
    good = next(c for c in GOOD if c.op == name)
    last = good.types[-1]
    assert isinstance(last, TileType)
    for other in (
        last.with_(shape=(4, 1)),
        last.with_(dtype=next(d for d in DTYPES.values() if d != last.dtype)),
    ):
        with pytest.raises(TilecTypeError, match="T107"):
            result_types(name, (*good.types[:-1], other), {}, (), UNKNOWN)
    assert len(good.types) == len(row.operands)


def test_results_of_the_type_rule() -> None:
    ones = make("const", dtype=float32, shape=SHAPE, value=1)
    assert make("lt", [ones.result, ones.result]).result.type == TileType(DTYPES["bool"], SHAPE)
    assert make("reduce", [ones.result], kind="argmax", axis=0).result.type == TileType(int32, (8,))
    (t,) = result_types("cast", tiles(float32, 1), {"dtype": int32}, (), UNKNOWN)
    assert t == TileType(int32, SHAPE)
