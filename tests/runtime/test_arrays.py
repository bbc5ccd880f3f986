"""Views, facts and refusals of array arguments."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tilec.ir.errors import TilecError
from tilec.ir.types import bfloat16, float32
from tilec.runtime.arrays import describe, device_of, is_array, require_apart, tensor_type, view


class Exporter:
    """Gives a capsule as other array libraries do."""

    def __init__(self, array: Any, versioned: bool = True) -> None:
        self.array, self.versioned = array, versioned

    def __dlpack__(self, **options: Any) -> Any:
        if "max_version" in options and not self.versioned:
            raise TypeError("unexpected keyword argument 'max_version'")
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.array.__dlpack_device__()


class OnGpu:
    """A device array: only its description may be read."""

    __cuda_array_interface__ = {  # noqa: RUF012
        "shape": (4, 8), "typestr": "<f4", "data": (4096, False), "strides": None, "version": 3,
    }  # fmt: skip


@pytest.mark.parametrize("versioned", [True, False])
def test_dlpack_is_a_view(versioned: bool) -> None:
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    seen = view(Exporter(x.T, versioned))
    seen[1, 2] = 99
    assert x[2, 1] == 99 and seen.strides == x.T.strides


def test_dlpack_keeps_the_memory_alive() -> None:
    seen = view(Exporter(np.full(1000, 7, np.int64)))
    assert (seen == 7).all()


def test_bfloat16_from_a_capsule() -> None:
    """The capsule's type code is patched, as numpy exports no bfloat16."""
    import ctypes

    from tilec.runtime import dlpack

    x = np.array([1.5, -2], ml_dtypes.bfloat16)

    class Patched(Exporter):
        def __dlpack__(self, **options: Any) -> Any:
            capsule = x.view(np.uint16).__dlpack__()
            get = ctypes.pythonapi.PyCapsule_GetPointer
            get.restype, get.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
            dlpack._Tensor.from_address(get(capsule, b"dltensor")).code = 4
            return capsule

    seen = view(Patched(x.view(np.uint16)))
    assert seen.dtype == ml_dtypes.bfloat16 and (seen == x).all()
    assert tensor_type(seen).dtype == bfloat16


def test_facts() -> None:
    x = np.zeros(65 * 64, np.float32)
    x = x[-x.ctypes.data // 4 % 4 :][: 64 * 64].reshape(64, 64)
    assert (tensor_type(x).contiguous, tensor_type(x).aligned) == (1, True)
    assert tensor_type(x.T).contiguous == 0
    assert tensor_type(x[:, ::2]).contiguous is None
    assert not tensor_type(x[:, 1:]).aligned
    assert not tensor_type(x[::-1]).aligned
    assert tensor_type(x[:, :1]).contiguous == 1
    assert tensor_type(x[:1, ::2]).contiguous == 0
    assert tensor_type(np.zeros(())).contiguous is None
    assert not tensor_type(np.zeros((5, 3), np.float32)).aligned


def test_devices() -> None:
    x = np.zeros(3)
    assert device_of(x) == device_of(Exporter(x)) == "cpu"
    assert device_of(OnGpu()) == "cuda"
    found = describe(OnGpu())
    assert (found.shape, found.strides, found.address, found.tensor.dtype) == ((4, 8), (8, 1), 4096, float32)
    assert is_array(x) and not is_array(np.float32(1)) and not is_array([1])


REFUSED = {
    "list": [1.0, 2.0], "object": np.array([None]), "text": np.array(["a"]), "device": OnGpu(),
    "foreign order": np.zeros(3, ">f4"), "record": np.zeros(3, [("a", "f4")]),
    "complex": np.zeros(3, complex), "split stride": np.zeros(3, [("a", "f4"), ("b", "u1")])["a"],
    "unaligned": np.zeros(9, np.uint8)[1:].view(np.float32),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_refused_with_a_mend(what: str) -> None:
    with pytest.raises(TilecError) as caught:
        view(REFUSED[what])
    assert caught.value.help


def test_arrays_that_share_elements_are_refused_if_one_is_written() -> None:
    row, packed = np.zeros(64, np.float32), np.zeros((4, 3, 8), np.float32)
    with pytest.raises(TilecError, match="V202: arguments 'Y' and 'X' overlap, and the kernel writes 'Y'"):
        require_apart([row[:32], row[31:]], ["X", "Y"], {1})
    with pytest.raises(TilecError, match="V202"):
        require_apart([row, 3, row], ["X", "n", "Y"], {0})
    require_apart([row, row], ["X", "Y"], set())
    require_apart([row[:32], row[32:]], ["X", "Y"], {0, 1})
    require_apart([packed[:, 0], packed[:, 1], 2.0], ["Q", "K", "scale"], {0})  # one in the gaps of the other
