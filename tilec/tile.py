"""The handles that a kernel's code holds while it is traced: `Tile` and `TensorArg`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

from tilec.ir.core import Value
from tilec.ir.errors import TilecError, TilecTypeError, TilecValueError
from tilec.ir.types import DType, TensorType, TileType
from tilec.trace import Region, Tracer

_AS_BOOL = (
    "if, while, and, or, not and conditional expressions take bool scalars; per element use & | ~"
    " and tl.where, tl.maximum, tl.minimum; reduce with tl.any or tl.all"
)


class MissingAttributeError(TilecValueError, AttributeError):
    """An attribute that does not exist, both as a TilecError and as Python expects it."""


def _binary(name: str, symbol: str) -> Callable[[Any, Any], Any]:
    def operate(self: Tile, other: Any) -> Any:
        from tilec.operators import binary

        return binary(name, symbol, self, other)

    operate.__doc__ = f"``a {symbol} b`` elementwise, with promotion and broadcasting."
    return operate


def _reflected(name: str, symbol: str) -> Callable[[Any, Any], Any]:
    def operate(self: Tile, other: Any) -> Any:
        from tilec.operators import binary

        return binary(name, symbol, other, self)

    operate.__doc__ = f"``b {symbol} a`` elementwise, with promotion and broadcasting."
    return operate


class Tile:
    """A value of the kernel: an n-dimensional tile, or a scalar (rank 0).

    Its shape and dtype are known while tracing, its elements only at run time.
    """

    __slots__ = ("region", "tracer", "value")

    def __init__(self, tracer: Tracer, region: Region, value: Value) -> None:
        self.tracer, self.region, self.value = tracer, region, value

    @property
    def type(self) -> TileType:
        """Shape and dtype in one."""
        assert isinstance(self.value.type, TileType)
        return self.value.type

    @property
    def shape(self) -> tuple[int, ...]:
        """The static extents; () for a scalar."""
        return self.type.shape

    @property
    def ndim(self) -> int:
        """The rank."""
        return len(self.shape)

    @property
    def dtype(self) -> DType:
        """The element type."""
        return self.type.dtype

    @property
    def T(self) -> Tile:
        """The transposed tile of rank 2."""
        from tilec.language.shape import trans

        return trans(self)

    def to(self, dtype: DType | str, saturate: bool = False) -> Tile:
        """Convert every element: see `tl.cast`."""
        from tilec.language.shape import cast

        return cast(self, dtype, saturate)

    def reshape(self, *shape: Any) -> Tile:
        """See `tl.reshape`; takes a tuple or single ints."""
        from tilec.language.shape import reshape

        return reshape(self, shape[0] if len(shape) == 1 else shape)

    def bitcast(self, dtype: DType | str) -> Tile:
        """The same bits as another dtype of equal width."""
        from tilec.language.shape import bitcast

        return bitcast(self, dtype)

    def __repr__(self) -> str:
        return f"<{self.type}>"

    def __getitem__(self, index: Any) -> Tile:
        from tilec.language.shape import subscript

        return subscript(self, index)

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        from tilec import language

        mend = (
            f"write tl.{name}(x)"
            if name in language.__all__
            else "tiles have shape, dtype, ndim, T, to, bitcast and reshape"
        )
        raise MissingAttributeError("V308", f"a tile has no attribute {name!r}", help=mend)

    __add__, __radd__ = _binary("add", "+"), _reflected("add", "+")
    __sub__, __rsub__ = _binary("sub", "-"), _reflected("sub", "-")
    __mul__, __rmul__ = _binary("mul", "*"), _reflected("mul", "*")
    __truediv__, __rtruediv__ = _binary("div", "/"), _reflected("div", "/")
    __floordiv__, __rfloordiv__ = _binary("floordiv", "//"), _reflected("floordiv", "//")
    __mod__, __rmod__ = _binary("mod", "%"), _reflected("mod", "%")
    __pow__, __rpow__ = _binary("pow", "**"), _reflected("pow", "**")
    __and__, __rand__ = _binary("and", "&"), _reflected("and", "&")
    __or__, __ror__ = _binary("or", "|"), _reflected("or", "|")
    __xor__, __rxor__ = _binary("xor", "^"), _reflected("xor", "^")
    __lshift__, __rlshift__ = _binary("shl", "<<"), _reflected("shl", "<<")
    __rshift__, __rrshift__ = _binary("shr", ">>"), _reflected("shr", ">>")
    __matmul__, __rmatmul__ = _binary("matmul", "@"), _reflected("matmul", "@")
    __lt__, __le__ = _binary("lt", "<"), _binary("le", "<=")
    __gt__, __ge__ = _binary("gt", ">"), _binary("ge", ">=")
    __eq__, __ne__ = _binary("eq", "=="), _binary("ne", "!=")
    __hash__ = object.__hash__

    def __neg__(self) -> Tile:
        return self.tracer.emit("neg", [self])[0]

    def __pos__(self) -> Tile:
        return self

    def __invert__(self) -> Tile:
        from tilec.coerce import elementwise

        return elementwise("not", self, what="~")

    def __abs__(self) -> Tile:
        return self.tracer.emit("abs", [self])[0]

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        from tilec.operators import numpy_binary

        return numpy_binary(ufunc.__name__, method, inputs)

    def __bool__(self) -> NoReturn:
        raise TilecTypeError("T309", f"{self.type} is used as a Python bool", help=_AS_BOOL)


class Axes(Sequence[Any]):
    """`T.shape` and `T.stride`: one run-time scalar for each dimension."""

    def __init__(self, tensor: TensorArg, op: str, what: str) -> None:
        self._tensor, self._op, self._what = tensor, op, what

    def __len__(self) -> int:
        return self._tensor.ndim

    def __getitem__(self, axis: Any) -> Any:
        from tilec.coerce import static_axis, static_int

        if isinstance(axis, slice):
            return tuple(self)[axis]
        what = f"{self._tensor.name}.{self._what}"
        axis = static_axis(static_int(axis, f"the index of {what}"), len(self), what)
        return self._tensor.tracer.emit(self._op, [self._tensor], axis=axis)[0]

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))


class TensorArg:
    """A tensor argument: memory that `tl.load`, `tl.store`, `tl.gather` and the like access.

    ``of``: the argument that it is a section of, if it is one.
    """

    __slots__ = ("of", "region", "tracer", "value")

    def __init__(self, tracer: Tracer, region: Region, value: Value, of: TensorArg | None = None) -> None:
        self.tracer, self.region, self.value, self.of = tracer, region, value, of

    @property
    def type(self) -> TensorType:
        """Dtype, rank and the facts of the specialisation."""
        assert isinstance(self.value.type, TensorType)
        return self.value.type

    @property
    def name(self) -> str:
        """The name of the parameter."""
        return self.value.hint

    @property
    def dtype(self) -> DType:
        """The element type."""
        return self.type.dtype

    @property
    def ndim(self) -> int:
        """The rank."""
        return self.type.rank

    @property
    def shape(self) -> Axes:
        """The extents as int32 scalars, known at run time."""
        return Axes(self, "dim", "shape")

    @property
    def stride(self) -> Axes:
        """The strides in elements as int64 scalars, known at run time."""
        return Axes(self, "stride", "stride")

    def __repr__(self) -> str:
        return f"<{self.name}: {self.type}>"

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise MissingAttributeError(
            "V308", f"a tensor has no attribute {name!r}", help="tensors have shape, stride, dtype and ndim"
        )

    def __bool__(self) -> NoReturn:
        raise TilecTypeError(
            "T310",
            f"the tensor {self.name!r} is used as a bool",
            help="decide with a tl.constexpr[bool] parameter",
        )


def _refuse(owner: type, methods: Sequence[str], error: Callable[[Any], TilecError]) -> None:
    """Make Python protocols that cannot work on a handle raise a helpful error."""

    def refuse(self: Any, *args: Any, **kwargs: Any) -> NoReturn:
        raise error(self)

    for name in methods:
        setattr(owner, name, refuse)


_ARITHMETIC = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor", "matmul")

_refuse(Tile, ("__int__", "__float__", "__complex__", "__round__"), lambda t: TilecTypeError(
    "T311", f"{t.type} is used as a Python number",
    help="its value is known only at run time: use tl.exp and the like instead of math,"
    " x.to(dtype) instead of int() and float()",
))  # fmt: skip
_refuse(Tile, ("__index__",), lambda t: TilecTypeError(
    "T311", f"{t.type} is used as a Python int",
    help="its value is known only at run time: use tl.range instead of range; to pick from a list or"
    " tuple unroll the loop with tl.static_range",
))  # fmt: skip
_refuse(Tile, ("__len__",), lambda t: TilecTypeError(
    "T312", f"{t.type} has no len()", help="write x.shape[0]"
))  # fmt: skip
_refuse(Tile, ("__iter__", "__contains__", "__reversed__"), lambda t: TilecTypeError(
    "T312", f"{t.type} cannot be iterated", help="operate on the whole tile, or loop over tl.range"
))  # fmt: skip
_refuse(Tile, ("__setitem__", "__delitem__"), lambda t: TilecTypeError(
    "T313", "elements of a tile cannot be assigned",
    help="build a new tile with tl.where(mask, new, old), or write memory with tl.store or tl.scatter",
))  # fmt: skip
_refuse(Tile, ("__call__",), lambda t: TilecTypeError("T314", f"{t.type} is called like a function"))
_refuse(Tile, ("__array__",), lambda t: TilecTypeError(
    "T311", f"{t.type} is given to numpy", help="numpy works on the host: use the functions of tl in kernels"
))  # fmt: skip
_refuse(
    TensorArg,
    [f"__{p}{n}__" for n in _ARITHMETIC for p in ("", "r")]
    + [f"__{n}__" for n in ("lt", "le", "gt", "ge", "eq", "ne", "neg", "pos", "abs", "invert")],
    lambda t: TilecTypeError(
        "T303",
        f"the tensor {t.name!r} is used as a tile",
        help=f"read a tile of it first: tl.load({t.name}, index, shape)",
    ),
)
TensorArg.__hash__ = object.__hash__  # type: ignore[method-assign]
_refuse(TensorArg, ("__len__",), lambda t: TilecTypeError(
    "T315", f"the tensor {t.name!r} has no length while tracing",
    help=f"write {t.name}.shape[0], a scalar of run time",
))  # fmt: skip
_refuse(TensorArg, ("__getitem__", "__iter__", "__contains__"), lambda t: TilecTypeError(
    "T315", f"the tensor {t.name!r} cannot be indexed",
    help=f"read with tl.load({t.name}, index, shape) or tl.gather({t.name}, indices)",
))  # fmt: skip
_refuse(TensorArg, ("__setitem__", "__delitem__"), lambda t: TilecTypeError(
    "T315", f"elements of the tensor {t.name!r} cannot be assigned",
    help=f"write with tl.store({t.name}, index, value) or tl.scatter({t.name}, indices, value)",
))  # fmt: skip
_refuse(
    TensorArg,
    ("__call__",),
    lambda t: TilecTypeError("T314", f"the tensor {t.name!r} is called like a function"),
)
_refuse(TensorArg, ("__array__", "__array_ufunc__"), lambda t: TilecTypeError(
    "T311", f"the tensor {t.name!r} is given to numpy",
    help="numpy works on the host: use the functions of tl in kernels",
))  # fmt: skip
