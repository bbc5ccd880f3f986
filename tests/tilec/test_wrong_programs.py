"""Wrong programs: each is a located TilecError with a sentence that helps.

The line that must be blamed carries a comment `# wrong`.
"""

from __future__ import annotations

import linecache
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import tilec
import tilec.language as tl
from tilec.errors import InternalError, TilecError

# What these programs get wrong is wrong on purpose: undefined names, unused values, bad statements.
# ruff: noqa: B007, B018, C416, F821, F841, SIM105, UP037

F = "f32[1]"
FF = "f32[2]"
I = "i32[1]"


@dataclass(frozen=True)
class Wrong:
    """A program, the types it is traced for, the code and a pattern of message and help."""

    fn: Callable[..., None]
    signature: Sequence[str]
    code: str
    text: str

    def __str__(self) -> str:
        return self.fn.__name__


WRONG: list[Wrong] = []


def wrong(code: str, text: str, *signature: str) -> Callable[[Callable[..., None]], None]:
    def add(fn: Callable[..., None]) -> None:
        WRONG.append(Wrong(fn, signature or (F,), code, text))

    return add


# Shapes and dtypes.


@wrong("T101", r"\(4,\) and \(8,\) do not broadcast.*x\[:, None\]")
def shapes_do_not_broadcast(T: tl.Tensor):
    tl.arange(0, 4) + tl.arange(0, 8)  # wrong


@wrong("T113", r"inner extents 8 and 4 differ.*tl.trans")
def dot_of_wrong_inner_extents(T: tl.Tensor):
    tl.dot(tl.zeros((16, 8), "f16"), tl.zeros((4, 16), "f16"))  # wrong


@wrong("T114", r"dot of float16 by float32.*b.to\(tl.float16\)")
def dot_of_two_dtypes(T: tl.Tensor):
    tl.dot(tl.zeros((16, 8), "f16"), tl.zeros((8, 16), "f32"))  # wrong


@wrong("T330", r"a of tl.dot has shape \(8,\), not rank 2.*tl.sum")
def dot_of_rank_one(T: tl.Tensor):
    tl.dot(tl.zeros((8,), "f16"), tl.zeros((8, 16), "f16"))  # wrong


@wrong("T330", r"b of tl.dot has shape \(1, 8, 16\), not rank 2.*batches")
def dot_of_rank_three(T: tl.Tensor):
    tl.dot(tl.zeros((8, 8), "f16"), tl.zeros((1, 8, 16), "f16"))  # wrong


@wrong("T115", r"acc of tl.dot has shape \(16, 8\), the product \(16, 16\).*tl.zeros")
def dot_with_wrong_accumulator(T: tl.Tensor):
    tl.dot(tl.zeros((16, 8), "f16"), tl.zeros((8, 16), "f16"), tl.zeros((16, 8), tl.float32))  # wrong


@wrong("T116", "tl.dot of float16 cannot accumulate in int32.*tl.float32")
def dot_of_floats_into_ints(T: tl.Tensor):
    tl.dot(tl.zeros((16, 8), "f16"), tl.zeros((8, 16), "f16"), tl.zeros((16, 16), tl.int32))  # wrong


@wrong("V309", "input_precision 'fast'.*ieee")
def dot_with_unknown_precision(T: tl.Tensor):
    a = tl.zeros((16, 16), "f32")
    tl.dot(a, a, input_precision="fast")  # wrong


@wrong("T118", r"store of float32 into the tensor 'T' of float16.*value.to\(T.dtype\)", "f16[1]")
def store_of_wrong_dtype(T: tl.Tensor):
    tl.store(T, (0,), tl.zeros((4,), tl.float32))  # wrong


@wrong("T318", "writes a tile, not int.*tl.full")
def store_of_a_number(T: tl.Tensor):
    tl.store(T, (0,), 1)  # wrong


@wrong("T117", "rank 2, the tile has shape.*one extent for each dimension", FF)
def store_of_wrong_rank(T: tl.Tensor):
    tl.store(T, (0, 0), tl.zeros((4,), tl.float32))  # wrong


@wrong("T117", "1 indices into the tensor 'T' of rank 2.*one index for each dimension", FF)
def load_with_too_few_indices(T: tl.Tensor):
    tl.load(T, (0,), (4, 4))  # wrong


@wrong("T317", "needs the shape")
def load_without_shape(T: tl.Tensor):
    tl.load(T, (0,))  # wrong


@wrong("T320", "index or an offset, exactly one")
def load_with_index_and_offset(T: tl.Tensor):
    tl.load(T, (0,), (4,), offset=(0,))  # wrong


@wrong("T305", "must be known when the kernel is compiled.*constexpr", F, "i32")
def shape_of_run_time_value(T: tl.Tensor, n: int):
    tl.zeros((n,), tl.float32)  # wrong


@wrong("V102", "positive extents")
def shape_of_zero(T: tl.Tensor):
    tl.zeros((4, 0), tl.float32)  # wrong


@wrong("T306", "must be an int, not float 2.0")
def shape_of_float(T: tl.Tensor):
    tl.zeros((8 / 4,), tl.float32)  # wrong


@wrong("T308", "dtype must be a dtype, not int 32")
def dtype_of_wrong_kind(T: tl.Tensor):
    tl.zeros((4,), 32)  # wrong


@wrong("U101", "no dtype named 'float33'.*float32")
def dtype_of_unknown_name(T: tl.Tensor):
    tl.zeros((4,), "float33")  # wrong


@wrong("V101", "axis 2 is outside a tile of rank 2.*0 to 1")
def axis_outside(T: tl.Tensor):
    tl.sum(tl.zeros((4, 4), tl.float32), axis=2)  # wrong


@wrong("T111", r"from \(4, 4\) to \(3, 5\): 16 elements")
def reshape_of_wrong_size(T: tl.Tensor):
    tl.reshape(tl.zeros((4, 4), tl.float32), (3, 5))  # wrong


@wrong("T112", r"\(0, 0\) does not name each axis.*permutation")
def permute_that_repeats_an_axis(T: tl.Tensor):
    tl.permute(tl.zeros((4, 4), tl.float32), (0, 0))  # wrong


@wrong("T328", r"rank 2, not \(4,\).*tl.permute")
def transpose_of_rank_one(T: tl.Tensor):
    tl.arange(0, 4).T  # wrong


@wrong("T101", r"\(4,\) does not broadcast to \(2, 2\)")
def broadcast_to_smaller(T: tl.Tensor):
    tl.broadcast_to(tl.arange(0, 4), (2, 2))  # wrong


@wrong("T109", r"widths differ.*x.to\(dtype\)")
def bitcast_of_other_width(T: tl.Tensor):
    tl.arange(0, 4).bitcast(tl.float16)  # wrong


@wrong("T326", r"tl.exp is not defined for int32.*x.to\(tl.float32\)")
def exp_of_integers(T: tl.Tensor):
    tl.exp(tl.arange(0, 4))  # wrong


@wrong("T108", r"& is not defined for float32.*tl.int32")
def bit_operation_on_floats(T: tl.Tensor):
    tl.load(T, (0,), (4,)) & 1  # wrong


@wrong("T327", "tl.max is not defined for bool.*tl.any")
def max_of_bool(T: tl.Tensor):
    tl.max(tl.arange(0, 4) > 1)  # wrong


@wrong("T324", "is tile<4xint32>, not bool.*compare")
def where_without_bool(T: tl.Tensor):
    tl.where(tl.arange(0, 4), 1, 2)  # wrong


@wrong("V307", "300 does not fit in uint8.*0 to 255", "u8[1]")
def number_that_does_not_fit(T: tl.Tensor):
    tl.load(T, (0,), (4,)) + 300  # wrong


@wrong("V103", "is empty")
def arange_that_is_empty(T: tl.Tensor):
    tl.arange(4, 4)  # wrong


@wrong("V105", "grid axis 3")
def grid_axis_outside(T: tl.Tensor):
    tl.program_id(3)  # wrong


# Tensors and tiles in wrong places.


@wrong("T303", "'T' is used as a tile.*tl.load")
def tensor_in_arithmetic(T: tl.Tensor):
    T + 1  # wrong


@wrong("T303", "'T', which is no tile.*tl.load")
def tile_plus_tensor(T: tl.Tensor):
    tl.arange(0, 4) + T  # wrong


@wrong("T319", "tensor argument, not the tile")
def load_of_a_tile(T: tl.Tensor):
    tl.load(tl.arange(0, 4), (0,), (4,))  # wrong


@wrong("T315", r"cannot be indexed.*tl.gather\(T, indices\)")
def tensor_indexed(T: tl.Tensor):
    T[0]  # wrong


@wrong("T315", "cannot be assigned.*tl.store")
def tensor_assigned(T: tl.Tensor):
    T[0] = 1.0  # wrong


@wrong("T313", "cannot be assigned.*tl.where")
def tile_assigned(T: tl.Tensor):
    x = tl.arange(0, 4)
    x[0] = 1  # wrong


@wrong("U302", "indexed with 0.*only None and :")
def tile_indexed(T: tl.Tensor):
    tl.arange(0, 4)[0]  # wrong


@wrong("T312", "cannot be iterated")
def tile_iterated(T: tl.Tensor):
    for x in tl.arange(0, 4):  # wrong
        pass


@wrong("T122", "must be a bool scalar, not tile<4xbool>.*tl.where")
def if_on_a_tile(T: tl.Tensor):
    if tl.arange(0, 4) > 2:  # wrong
        pass


@wrong("T122", "must be a bool scalar, not tile<int32>.*!= 0", F, "i32")
def if_on_an_int(T: tl.Tensor, n: int):
    if n:  # wrong
        pass


@wrong("T122", "condition of and must be a bool scalar.*tl.where")
def and_on_tiles(T: tl.Tensor):
    x = tl.arange(0, 4)
    x > 1 and x < 3  # wrong


@wrong("T309", "used as a Python bool.*tl.where")
def bool_of_a_tile(T: tl.Tensor):
    bool(tl.arange(0, 4))  # wrong


@wrong("T309", "used as a Python bool")
def assert_on_run_time_value(T: tl.Tensor):
    assert tl.program_id(0) >= 0  # wrong


@wrong("T311", "used as a Python number.*tl.exp")
def math_function_on_a_tile(T: tl.Tensor):
    math.exp(tl.load(T, (0,), (1,)))  # wrong


@wrong("T311", "np.exp is called on a tile.*tl.exp")
def numpy_function_on_a_tile(T: tl.Tensor):
    np.exp(tl.load(T, (0,), (4,)))  # wrong


@wrong("T304", "not ndarray.*arguments of the kernel")
def numpy_array_in_arithmetic(T: tl.Tensor):
    tl.load(T, (0,), (4,)) + np.ones(4)  # wrong


@wrong("T311", "used as a Python int.*tl.range", F, "i32")
def python_range_of_run_time_value(T: tl.Tensor, n: int):
    for i in range(n):  # wrong
        pass


@wrong("T311", "used as a Python int.*tl.static_range", I, "i32")
def list_indexed_by_run_time_value(T: tl.Tensor, n: int):
    [1, 2, 3][n]  # wrong


@wrong("T315", r"'T' has no length.*T.shape\[0\]")
def length_of_a_tensor(T: tl.Tensor):
    len(T)  # wrong


@wrong("T312", r"no len\(\).*x.shape\[0\]")
def length_of_a_tile(T: tl.Tensor):
    len(tl.arange(0, 4))  # wrong


@wrong("R302", r"\(1099511627776,\) has more than 2147483647 elements.*loop")
def tile_of_a_tera(T: tl.Tensor):
    tl.load(T, (0,), (2**40,))  # wrong


@wrong("R302", r"\(65536, 65536\) has more than")
def broadcast_to_too_many_elements(T: tl.Tensor):
    x = tl.arange(0, 65536)
    x[:, None] + x[None, :]  # wrong


@wrong("T108", "~ is not defined for float32.*bitcast")
def inversion_of_floats(T: tl.Tensor):
    ~tl.load(T, (0,), (4,))  # wrong


@wrong("T345", "Python's sum is called on a tile.*tl.sum")
def python_sum_of_a_tile(T: tl.Tensor):
    sum(tl.arange(0, 4))  # wrong


@wrong("T345", "Python's max is called on a tile.*tl.maximum")
def python_max_of_tiles(T: tl.Tensor):
    max(tl.arange(0, 4), 2)  # wrong


@wrong("T344", "print of a run-time value.*tl.static_print")
def print_of_a_tile(T: tl.Tensor):
    print(tl.arange(0, 4))  # wrong


@wrong("V308", r"no attribute 'sum'.*tl.sum\(x\)")
def method_that_does_not_exist(T: tl.Tensor):
    tl.arange(0, 4).sum()  # wrong


@wrong("V308", "a tensor has no attribute 'size'")
def tensor_attribute_that_does_not_exist(T: tl.Tensor):
    T.size  # wrong


@wrong("V101", "T.shape: axis 1 is outside")
def tensor_extent_outside(T: tl.Tensor):
    T.shape[1]  # wrong


@wrong("T321", "pad must be a number known")
def pad_of_run_time_value(T: tl.Tensor):
    tl.load(T, (0,), (4,), pad=tl.program_id(0))  # wrong


@wrong("T105", "integer scalar, not tile<4xint32>.*tl.gather")
def index_of_a_tile(T: tl.Tensor):
    tl.load(T, (tl.arange(0, 4),), (4,))  # wrong


@wrong("T322", "not an integer tile")
def gather_with_float_indices(T: tl.Tensor):
    tl.gather(T, (tl.load(T, (0,), (4,)),))  # wrong


@wrong("T119", "tile<4xint32>, the tensor 'T' has float32.*value.to")
def scatter_of_wrong_dtype(T: tl.Tensor):
    tl.scatter(T, (tl.arange(0, 4),), tl.arange(0, 4))  # wrong


@wrong("T108", "atomic_xor is not defined for float32")
def atomic_on_floats(T: tl.Tensor):
    tl.atomic_xor(T, (tl.arange(0, 4),), 1.0)  # wrong


@wrong("U301", "sem='acq_rel'")
def atomic_with_other_order(T: tl.Tensor):
    tl.atomic_add(T, (tl.arange(0, 4),), 1.0, sem="acq_rel")  # wrong


# Names.


@wrong("V305", "name 'undefined_name' is not defined")
def name_undefined(T: tl.Tensor):
    tl.store(T, (0,), undefined_name)  # wrong


@wrong("V305", "name 'later' is not defined")
def name_used_before_assignment(T: tl.Tensor):
    x = later  # wrong
    later = 1


@wrong("V314", "no function tl.maximun.*tl.maximum")
def language_function_misspelt(T: tl.Tensor):
    tl.maximun(1, 2)  # wrong


@wrong("U304", "tl.cumsum is not supported yet.*triangular")
def language_function_unsupported(T: tl.Tensor):
    tl.cumsum(tl.arange(0, 4), 0)  # wrong


@wrong("T301", r"unexpected keyword argument 'mask'.*write tl.load\(tensor, index=None.*pad=0\)")
def keyword_that_does_not_exist(T: tl.Tensor):
    tl.load(T, (0,), (4,), mask=None)  # wrong


@wrong("V304", "ZeroDivisionError")
def python_error(T: tl.Tensor):
    x = 1 // 0  # wrong


@wrong("V304", "AssertionError: small.*static_assert")
def python_assertion(T: tl.Tensor):
    n = 4
    assert n > 8, "small"  # wrong


@wrong("V312", "static_assert failed: small")
def static_assertion(T: tl.Tensor):
    tl.static_assert(4 > 8, "small")  # wrong


# Statements.


@wrong("S303", "break in a loop that runs on the device.*while", I, "i32")
def break_in_run_time_loop(T: tl.Tensor, n: int):
    for i in tl.range(n):
        break  # wrong


@wrong("S303", "continue in a loop that runs on the device", I, "i32")
def continue_in_run_time_branch(T: tl.Tensor, n: int):
    for i in tl.range(n):
        if i > 2:
            continue  # wrong
        tl.scatter(T, (i,), i)


@wrong("S303", "break in a branch of a run-time if", I, "i32")
def break_of_python_loop_in_run_time_branch(T: tl.Tensor, n: int):
    for i in tl.static_range(4):
        if n > i:
            break  # wrong


@wrong("S304", "return inside of a loop.*return after it", I, "i32")
def return_in_run_time_loop(T: tl.Tensor, n: int):
    for i in tl.range(n):
        if i > 2:
            return  # wrong


@wrong("S306", "else of a run-time loop", I, "i32")
def else_of_run_time_loop(T: tl.Tensor, n: int):
    for i in tl.range(n):  # wrong
        pass
    else:
        pass


@wrong("S305", "try in a kernel")
def try_statement(T: tl.Tensor):
    try:  # wrong
        tl.arange(0, 4)
    except ValueError:
        pass


@wrong("S305", "with in a kernel")
def with_statement(T: tl.Tensor):
    with open("x") as f:  # wrong
        pass


@wrong("S305", "yield in a kernel.*tl.store")
def yield_expression(T: tl.Tensor):
    yield 1  # wrong


TOTAL = 0


@wrong("S305", "global in a kernel")
def global_statement(T: tl.Tensor):
    global TOTAL  # wrong
    TOTAL = 1


@wrong("S305", "class in a kernel")
def class_statement(T: tl.Tensor):
    class A:  # wrong
        pass


@wrong("S301", ":= inside and/or.*line before", I, "i32")
def walrus_in_and(T: tl.Tensor, n: int):
    if n > 0 and (m := n) > 1:  # wrong
        pass


@wrong("S314", "tl.range is iterated where.*tl.static_range", I, "i32")
def comprehension_over_tl_range(T: tl.Tensor, n: int):
    x = [i for i in tl.range(n)]  # wrong


@wrong("V303", "returns a value.*tl.store")
def kernel_that_returns(T: tl.Tensor):  # wrong
    return tl.arange(0, 4)


@wrong("V310", "step of tl.range is 0", I, "i32")
def range_with_step_zero(T: tl.Tensor, n: int):
    for i in tl.range(0, n, 0):  # wrong
        pass


@wrong("T331", "stop of tl.range must be an integer scalar, not float 2.5.*//")
def range_with_float(T: tl.Tensor):
    for i in tl.range(5 / 2):  # wrong
        pass


@wrong("T331", "not tile<float32>.*tl.cdiv", I, "i32")
def range_with_run_time_float(T: tl.Tensor, n: int):
    for i in tl.range(n / 2):  # wrong
        pass


@wrong("T305", "stop of tl.static_range must be known", I, "i32")
def static_range_of_run_time_value(T: tl.Tensor, n: int):
    for i in tl.static_range(n):  # wrong
        pass


@wrong("V311", "stages of tl.range is 0", I, "i32")
def range_without_stages(T: tl.Tensor, n: int):
    for i in tl.range(n, stages=0):  # wrong
        pass


@wrong("T333", "known when the kernel is compiled.*tl.assume", I, "i32")
def static_assert_of_run_time_value(T: tl.Tensor, n: int):
    tl.static_assert(n > 0)  # wrong


@wrong("T334", "bool scalar, not tile<int32>", I, "i32")
def assume_of_an_int(T: tl.Tensor, n: int):
    tl.assume(n)  # wrong


@wrong("T341", r"constant at first and a run-time value later.*tl.full", I, "i32")
def while_that_becomes_run_time(T: tl.Tensor, n: int):
    i = 0
    while i < 4:  # wrong
        i = i + n


@wrong("T342", "'acc' enters the loop as the number 0.*leaves its body as tile<4x", F, "i32")
def accumulator_that_starts_as_a_number(T: tl.Tensor, n: int):
    acc = 0.0
    for i in tl.range(n):  # wrong
        acc = acc + tl.load(T, (i,), (4,))


@wrong("T342", "'acc' enters the loop as the Python object None.*Python objects cannot", F, "i32")
def accumulator_that_starts_as_none(T: tl.Tensor, n: int):
    acc = None
    for i in tl.range(n):  # wrong
        x = tl.load(T, (i,), (4,))
        acc = x if acc is None else acc + x


@wrong("T340", "the conditional expression is tile<4xint32> in the first", I, "i32")
def conditional_expression_of_two_shapes(T: tl.Tensor, n: int):
    tl.arange(0, 4) if n > 0 else tl.arange(0, 8)  # wrong


def blamed_line(fn: Callable[..., None]) -> int:
    """The line of the function that says it is wrong."""
    first = fn.__code__.co_firstlineno
    for line in range(first, first + 20):
        if linecache.getline(__file__, line).rstrip().endswith("# wrong"):
            return line
    raise LookupError(fn.__name__)


def check(error: TilecError, code: str, text: str) -> None:
    assert error.code == code, str(error)
    assert re.search(text, f"{error.message} {error.help}", re.DOTALL), str(error)
    assert not isinstance(error, InternalError)
    assert error.help, f"no help: {error}"


@pytest.mark.parametrize("case", WRONG, ids=str)
def test_wrong_program(case: Wrong) -> None:
    with pytest.raises(TilecError) as caught:
        tilec.kernel(case.fn).trace(case.signature)
    error = caught.value
    check(error, case.code, case.text)
    assert error.loc is not None
    assert (error.loc.file, error.loc.line) == (__file__, blamed_line(case.fn)), str(error)
    assert "^" in str(error) and error.code in str(error)


def test_there_are_many() -> None:
    assert len(WRONG) >= 90
    assert len({str(w) for w in WRONG}) == len(WRONG)


# Launches.


@tilec.kernel
def scale(X: tl.Tensor["f32", 1], Y: tl.Tensor, a: float, n: int, B: tl.constexpr[int] = 16):
    i = tl.program_id(0)
    tl.store(Y, (i,), tl.load(X, (i,), (B,)) * a + n)


@tilec.kernel
def plain(X: tl.Tensor, V: tl.constexpr):
    tl.store(X, (0,), tl.full((4,), V, X.dtype))


def x(n: int = 32, dtype: Any = np.float32) -> np.ndarray:
    return np.zeros(n, dtype)


def read_only() -> np.ndarray:
    y = x()
    y.flags.writeable = False
    return y


A_ROW = np.zeros(64, np.float32)
LAUNCHES: dict[str, tuple[Callable[[], Any], str, str]] = {
    "too few": (lambda: scale[2](x(), x(), 1.0), "T361", "'n' of kernel scale is missing"),
    "too many": (lambda: scale[2](x(), x(), 1.0, 1, 16, 3), "T359", "takes 5 arguments, 6 are given"),
    "unknown": (lambda: scale[2](x(), x(), 1.0, 1, BM=3), "T360", "'BM' is no parameter.*X, Y, a, n, B"),
    "twice": (lambda: scale[2](x(), x(), 1.0, 1, n=1), "T360", "'n' is given twice"),
    "dtype": (
        lambda: scale[2](x(dtype=np.float16), x(), 1.0, 1),
        "T353",
        "'X' has float16 elements.*float32",
    ),
    "rank": (lambda: scale[2](np.zeros((4, 4), np.float32), x(), 1.0, 1), "T354", "'X' has rank 2.*1"),
    "number for tensor": (
        lambda: scale[2](x(), 1, 1.0, 1),
        "T352",
        "'Y' is 1, but the parameter is a tensor",
    ),
    "array for scalar": (lambda: scale[2](x(), x(), x(), 1), "T352", "'a' is an array"),
    "float for int": (lambda: scale[2](x(), x(), 1.0, 1.5), "T353", "'n' is 1.5.*int32"),
    "large int": (lambda: scale[2](x(), x(), 1.0, 2**31), "V352", "does not fit in int32.*tl.int64"),
    "list": (lambda: scale[2]([1.0], x(), 1.0, 1), "T355", "'X' is list.*numpy array"),
    "none": (lambda: scale[2](None, x(), 1.0, 1), "T355", "'X' is NoneType"),
    "objects": (lambda: scale[2](x(dtype=object), x(), 1.0, 1), "T205", "no numbers"),
    "huge int": (lambda: scale[2](x(), x(), 1.0, 2**64), "V352", "does not fit in int32.*smaller"),
    "foreign dtype": (
        lambda: scale[2](x(), x(dtype="c8"), 1.0, 1),
        "U101",
        "'Y': no dtype named 'complex64'",
    ),
    "overlap": (
        lambda: scale[2](A_ROW[0:32], A_ROW[8:40], 1.0, 1),
        "V202",
        "'Y' and 'X' overlap.*writes 'Y'",
    ),
    "threads": (lambda: scale[2](x(), x(), 1.0, 1, num_threads=0), "V356", "num_threads is 0.*at least 1"),
    "threads text": (lambda: scale[2](x(), x(), 1.0, 1, num_threads="2"), "V356", "num_threads is '2'"),
    "options": (lambda: scale[2](x(), x(), 1.0, 1, options=3), "T367", "options is 3.*Options"),
    "read-only": (lambda: scale[2](x(), read_only(), 1.0, 1), "V201", "'Y' is read-only"),
    "constexpr array": (lambda: plain[1](x(), x()), "T356", "'V' is given an array"),
    "constexpr list": (lambda: plain[1](x(), [1]), "T357", "given a list, not hashable.*tuple"),
    "constexpr missing": (lambda: plain[1](x()), "T361", "'V' of kernel plain is missing"),
    "constexpr type": (lambda: scale[2](x(), x(), 1.0, 1, B=1.5), "T358", "'B' is 1.5, not int"),
    "no grid": (lambda: scale(x(), x(), 1.0, 1), "T362", r"scale is called without a grid.*scale\[grid\]"),
    "zero grid": (lambda: scale[0](x(), x(), 1.0, 1), "V355", r"\(0,\) is not positive"),
    "long grid": (lambda: scale[1, 1, 1, 1](x(), x(), 1.0, 1), "T365", "1 to 3 ints"),
    "float grid": (lambda: scale[32 / 16](x(), x(), 1.0, 1), "T365", "not 2.0.*tl.cdiv"),
    "grid meta": (lambda: scale[lambda m: m["BM"]](x(), x(), 1.0, 1), "V354", "'BM'.*it gets B"),
    "backend": (lambda: scale[2](x(), x(), 1.0, 1, backend="tpu"), "V353", "'tpu'.*interpreter"),
    "signature length": (lambda: scale.compile([F]), "T364", "4 run-time parameters, the signature 1"),
    "signature kind": (lambda: scale.trace([F, F, "f32", F]), "T352", "'n' is tensor"),
    "signature text": (lambda: scale.trace([F, "f32[1, tall]", "f32", "i32"]), "V350", "'tall'.*unaligned"),
    "signature object": (lambda: scale.trace([F, 3.5, "f32", "i32"]), "T351", "3.5 is no argument type"),
    "signature constexpr": (lambda: scale.trace([F, F, "f32", "i32"], Q=1), "T360", "'Q' is no constexpr"),
    "target": (lambda: scale.compile([F, F, "f32", "i32"], target="sm_10"), "U510", "no backend"),
    "in a kernel": (lambda: launcher[1](x()), "S309", "launched inside of a kernel"),
    "outside": (lambda: tl.zeros((4,), tl.float32), "S315", "used outside of a kernel"),
    "autotune": (lambda: tilec.autotune(configs=[]), "V357", "at least one tilec.Config"),
    "autotune of a number": (lambda: tilec.autotune([tilec.Config({})])(3), "T368", "above int"),
}


@tilec.kernel
def launcher(X: tl.Tensor):
    plain[1](X, 1)


@pytest.mark.parametrize("name", LAUNCHES)
def test_wrong_launch(name: str) -> None:
    launch, code, text = LAUNCHES[name]
    with pytest.raises(TilecError) as caught:
        launch()
    assert caught.value.code == code, str(caught.value)
    assert re.search(text, f"{caught.value.message} {caught.value.help}"), str(caught.value)


# Definitions.


def test_tensor_annotation_with_too_much() -> None:
    with pytest.raises(TilecError) as caught:
        tl.Tensor["f32", 1, 2]
    check(caught.value, "T350", "a dtype and a rank")


def test_wrong_definitions() -> None:
    def variadic(*T: tl.Tensor):
        pass

    def reserved(backend: tl.Tensor):
        pass

    def default(n: int = 3):
        pass

    def annotation(n: dict):
        pass

    for fn, code in ((variadic, "S310"), (reserved, "S311"), (default, "S312"), (annotation, "T350")):
        with pytest.raises(TilecError) as caught:
            tilec.kernel(fn)
        assert caught.value.code == code and caught.value.loc is not None
        assert caught.value.loc.line == fn.__code__.co_firstlineno
    with pytest.raises(TilecError, match="S313"):
        tilec.kernel(Wrong)


def test_source_that_is_not_available() -> None:
    space: dict[str, Any] = {}
    exec("def k(T):\n    pass\n", space)
    with pytest.raises(TilecError, match=r"S302.*source of k is not available"):
        tilec.kernel(space["k"]).trace([F])


def test_too_many_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tilec.trace.MAX_OPS", 100)

    def k(T: tl.Tensor):
        x = tl.zeros((4,), tl.float32)
        for i in tl.static_range(1000):
            x = x + i

    with pytest.raises(TilecError, match="R301: the kernel unrolls to more than 100"):
        tilec.kernel(k).trace([F])


def test_traceback_has_no_frames_of_ours() -> None:
    import traceback

    def k(T: tl.Tensor):
        tl.exp(tl.arange(0, 4))

    try:
        tilec.kernel(k).trace([F])
    except TilecError as error:
        files = [f.filename for f in traceback.extract_tb(error.__traceback__)]
        assert files[0] == __file__ and len(files) <= 2
        assert error.__cause__ is None and error.__suppress_context__


def test_python_errors_keep_their_cause() -> None:
    def k(T: tl.Tensor):
        [][1]

    with pytest.raises(TilecError) as caught:
        tilec.kernel(k).trace([F])
    assert isinstance(caught.value.__cause__, IndexError)


def test_endless_recursion_has_a_short_chain() -> None:
    def down(n: Any) -> Any:
        return down(n + 1)

    def k(T: tl.Tensor, n: int):
        down(n)

    with pytest.raises(TilecError, match="recursion on run-time values") as caught:
        tilec.kernel(k).trace([I, "i32"])
    assert caught.value.loc is not None and caught.value.loc.file == __file__
    assert str(caught.value).count("called from") < 20
