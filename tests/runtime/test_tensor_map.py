"""Tensor maps: the fields for an array, and one broken rule at a time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tilec.backends.artifact import TensorMap
from tilec.ir.errors import TilecError, TilecTypeError, UnsupportedError
from tilec.ir.types import TensorType, float16, float32
from tilec.runtime.arrays import Described
from tilec.runtime.tensor_map import DATA_TYPE, SPAN, tensor_map_fields

MAP = TensorMap(0, float16, (1, 0), (64, 128), "128B")


def array(shape: tuple[int, ...], strides: tuple[int, ...], address: int = 0x1000) -> Described:
    return Described(TensorType(float16, len(shape)), shape, strides, address, True)


GOOD = array((300, 200), (208, 1))


def test_dimensions_are_innermost_first_and_strides_in_bytes() -> None:
    fields = tensor_map_fields(MAP, GOOD)
    assert (fields.sizes, fields.strides, fields.box) == ((200, 300), (416,), (64, 128))
    assert (fields.data_type, fields.swizzle, fields.address) == ("FLOAT16", "128B", 0x1000)


def test_a_transposed_view_swaps_the_dimensions() -> None:
    fields = tensor_map_fields(replace(MAP, dims=(0, 1)), array((300, 200), (1, 304)))
    assert (fields.sizes, fields.strides) == ((300, 200), (608,))


def test_rank_four_keeps_all_strides() -> None:
    wide = array((2, 3, 100, 64), (3 * 6400, 6400, 64, 1))
    fields = tensor_map_fields(replace(MAP, dims=(3, 2, 1, 0), box=(64, 128, 1, 1)), wide)
    assert fields.sizes == (64, 100, 3, 2)
    assert fields.strides == (128, 12800, 38400)


def test_the_stride_of_an_extent_of_one_does_not_matter() -> None:
    assert tensor_map_fields(MAP, array((1, 7), (7, 1))).strides == (16,)
    assert tensor_map_fields(MAP, array((5, 1), (8, 99))).strides == (16,)


@pytest.mark.parametrize(
    ("changed", "bad", "words"),
    [
        (MAP, array((300, 200), (208, 2)), "stride 2, not 1"),
        (MAP, array((300, 200), (208, 1), 0x1008), "no multiple of 16 bytes"),
        (MAP, array((300, 200), (201, 1)), "no multiples of 16"),
        (MAP, array((300, 200), (-208, 1)), "negative"),
        (MAP, array((300, 200), (1 << 39, 1)), "2\\^40"),
        (MAP, array((300, (1 << 32) + 1), (1 << 33, 1)), "above 2\\^32"),
        (replace(MAP, box=(64, 257)), GOOD, "1 to 256"),
        (replace(MAP, box=(64, 0)), GOOD, "1 to 256"),
        (replace(MAP, box=(4, 128)), GOOD, "8 bytes is no multiple"),
        (replace(MAP, box=(72, 128)), GOOD, "wider than swizzle 128B"),
        (replace(MAP, box=(64, 128, 1)), GOOD, "another rank"),
        (replace(MAP, dims=(5, 4, 3, 2, 1, 0), box=(64,) * 6), array((2,) * 6, (8 * 32, 128, 64, 32, 16, 1)),
         "rank of 6"),
    ],
)  # fmt: skip
def test_each_broken_rule_is_named(changed: TensorMap, bad: Described, words: str) -> None:
    with pytest.raises(TilecError, match=words):
        tensor_map_fields(changed, bad)


def test_another_dtype_or_rank_and_an_empty_array_are_refused() -> None:
    with pytest.raises(TilecTypeError):
        tensor_map_fields(replace(MAP, dtype=float32), GOOD)
    with pytest.raises(TilecTypeError):
        tensor_map_fields(MAP, array((300,), (1,)))
    with pytest.raises(UnsupportedError, match="no elements"):
        tensor_map_fields(MAP, array((300, 0), (8, 1)))


def test_the_driver_has_every_name() -> None:
    driver = pytest.importorskip("cuda.bindings.driver", reason="the extra `cuda` is not installed")
    types, swizzles = driver.CUtensorMapDataType, driver.CUtensorMapSwizzle
    assert all(hasattr(types, f"CU_TENSOR_MAP_DATA_TYPE_{name}") for name in DATA_TYPE.values())
    assert all(hasattr(swizzles, f"CU_TENSOR_MAP_SWIZZLE_{name.upper()}") for name in SPAN)
