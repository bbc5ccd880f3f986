"""Emit rules of the elementwise ops that are plain arithmetic."""

from __future__ import annotations

from collections.abc import Callable

from tilec.backends.ptx.context import Emitter, Rule, register_type
from tilec.backends.ptx.numeric import bits, compute_type, narrow, narrow_f64, widen
from tilec.ir.core import Op
from tilec.ir.ptx.module import Int, Reg, f64
from tilec.ir.types import DType, TileType

# (emitter, dtype, operands in their type of computation) -> result in that type.
Element = Callable[..., Reg]


def pointwise(e: Emitter, op: Op, element: Callable[..., Reg]) -> None:
    """Apply a function of registers to every element; equal operands are computed once."""
    done: dict[tuple[Reg, ...], Reg] = {}
    regs = []
    for operands in zip(*(e.fragment(a).regs for a in op.args), strict=True):
        if operands not in done:
            done[operands] = element(*operands)
        regs.append(done[operands])
    e.bind_regs(op.result, regs)


def dtype_of_operand(op: Op, index: int = 0) -> DType:
    t = op.args[index].type
    assert isinstance(t, TileType)
    return t.dtype


def rounded(element: Element) -> Rule:
    """The rule of an op that widens its operands, computes and rounds."""

    def rule(e: Emitter, op: Op) -> None:
        dtype = dtype_of_operand(op)

        def one(*regs: Reg) -> Reg:
            return narrow(e, dtype, element(e, dtype, *(widen(e, dtype, r) for r in regs)))

        pointwise(e, op, one)

    return rule


def _simple(ints: str, floats: str = "") -> Element:
    """An instruction by kind; ``{t}`` stands for the type of computation, ``{b}`` for its bits."""

    def element(e: Emitter, dtype: DType, *regs: Reg) -> Reg:
        opcode = (floats if dtype.is_float else ints).format(t=compute_type(dtype), b=bits(dtype))
        return e.make(bits(dtype), opcode, *regs)

    return element


def _logic(name: str) -> Rule:
    def rule(e: Emitter, op: Op) -> None:
        dtype = dtype_of_operand(op)
        kind = register_type(dtype)
        pointwise(e, op, lambda *r: narrow(e, dtype, e.make(kind, f"{name}.{kind}", *r)))

    return rule


def extreme(name: str) -> Element:
    def element(e: Emitter, dtype: DType, a: Reg, b: Reg) -> Reg:
        t = compute_type(dtype)
        if t == "f32":
            return e.make("f32", f"{name}.NaN.f32", a, b)
        least = e.make(bits(dtype), f"{name}.{t}", a, b)
        if t != "f64":
            return least
        unordered = e.make("pred", "setp.nan.f64", a, b)
        return e.make("f64", "selp.f64", e.make("f64", "add.rn.f64", a, b), least, unordered)

    return element


def _div(e: Emitter, op: Op) -> None:
    opcode = "div.full.f32" if op in e.rough else "div.rn.{t}"
    rounded(_simple("", opcode))(e, op)


def _neg(e: Emitter, dtype: DType, a: Reg) -> Reg:
    t = compute_type(dtype)
    if dtype.is_float:
        return e.make(t, f"neg.{t}", a)
    return e.make(bits(dtype), f"sub.{t}", Int(0), a)


def _abs(e: Emitter, dtype: DType, a: Reg) -> Reg:
    return a if dtype.kind == "uint" else e.make(bits(dtype), f"abs.{compute_type(dtype)}", a)


def _quotient(e: Emitter, dtype: DType, a: Reg, b: Reg) -> tuple[Reg, Reg, Reg]:
    """(floor of a / b, remainder, b is zero) of integers; quotients by zero are of 1."""
    t, kind = compute_type(dtype), bits(dtype)
    zero = e.make("pred", f"setp.eq.{t}", b, Int(0))
    safe = e.make(kind, f"selp.{kind}", Int(1), b, zero)
    q = e.make(kind, f"div.{t}", a, safe)
    r = e.make(kind, f"sub.{t}", a, e.make(kind, f"mul.lo.{t}", q, safe))
    if dtype.kind == "uint":
        return q, r, zero
    signs = e.make("pred", f"setp.lt.{t}", e.make(kind, f"xor.{kind}", r, safe), Int(0))
    wrong = e.make("pred", f"setp.ne.and.{t}", r, Int(0), signs)
    lower = e.make(kind, f"selp.{kind}", e.make(kind, f"sub.{t}", q, Int(1)), q, wrong)
    upper = e.make(kind, f"selp.{kind}", e.make(kind, f"add.{t}", r, safe), r, wrong)
    return lower, upper, zero


def _by_constant(e: Emitter, op: Op) -> int | None:
    """k where the op divides integers by the constant 2**k, which a shift or mask does, rounding down."""
    divisor, dtype = e.defs.get(op.args[1]), dtype_of_operand(op)
    while divisor is not None and divisor.name == "broadcast":
        divisor = e.defs.get(divisor.args[0])
    if divisor is None or divisor.name != "const" or not dtype.is_int:
        return None
    number = int(divisor.attrs["value"])
    return number.bit_length() - 1 if number > 0 and number & (number - 1) == 0 else None


def _divided(general: Element, power: Callable[[Emitter, DType, Reg, int], Reg]) -> Rule:
    """Floor division or remainder, with its own way where the divisor is a power of two."""

    def rule(e: Emitter, op: Op) -> None:
        k, dtype = _by_constant(e, op), dtype_of_operand(op)
        if k is None:
            rounded(general)(e, op)
        else:
            pointwise(e, op, lambda a, _: power(e, dtype, a, k))

    return rule


def _shifted(e: Emitter, dtype: DType, a: Reg, k: int) -> Reg:
    return e.make(bits(dtype), f"shr.{compute_type(dtype)}", a, Int(k))


def _masked(e: Emitter, dtype: DType, a: Reg, k: int) -> Reg:
    return e.make(bits(dtype), f"and.{bits(dtype)}", a, Int((1 << k) - 1))


def _floordiv(e: Emitter, dtype: DType, a: Reg, b: Reg) -> Reg:
    if dtype.is_float:
        t = compute_type(dtype)
        return e.make(t, f"cvt.rmi.{t}.{t}", e.make(t, f"div.rn.{t}", a, b))
    q, _, zero = _quotient(e, dtype, a, b)
    return e.make(bits(dtype), f"selp.{bits(dtype)}", Int(0), q, zero)


def _mod(e: Emitter, dtype: DType, a: Reg, b: Reg) -> Reg:
    if dtype.is_float:
        return _float_mod(e, dtype, a, b)
    _, r, zero = _quotient(e, dtype, a, b)
    return e.make(bits(dtype), f"selp.{bits(dtype)}", Int(0), r, zero)


def _float_mod(e: Emitter, dtype: DType, a: Reg, b: Reg) -> Reg:
    """a - b * floor(a / b) in float64: exact for float32 while |a / b| < 2**29."""
    wide = dtype.bits == 64
    x, y = (r if wide else e.make("f64", "cvt.f64.f32", r) for r in (a, b))
    q = e.make("f64", "cvt.rmi.f64.f64", e.make("f64", "div.rn.f64", x, y))
    r = e.make("f64", "fma.rn.f64", e.make("f64", "neg.f64", q), y, x)
    # The quotient may have been rounded up to a whole number: then r has the wrong sign.
    signs = e.make("pred", "setp.lt.f64", e.make("f64", "mul.rn.f64", r, y), f64(0.0))
    r = e.make("f64", "selp.f64", e.make("f64", "add.rn.f64", r, y), r, signs)
    zero = e.make("pred", "setp.eq.f64", r, f64(0.0))
    r = e.make("f64", "selp.f64", e.make("f64", "copysign.f64", y, r), r, zero)
    infinite = e.make("pred", "testp.infinite.f64", y)
    same = e.make("pred", "setp.ge.f64", e.make("f64", "mul.rn.f64", x, y), f64(0.0))
    nought = e.make("pred", "setp.eq.or.f64", x, f64(0.0), same)
    finite = e.make("pred", "testp.finite.f64", x)
    r = e.make(
        "f64",
        "selp.f64",
        e.make("f64", "selp.f64", x, y, nought),
        r,
        e.make("pred", "and.pred", infinite, finite),
    )
    return r if wide else e.make("f32", "cvt.rn.f32.f64", r)


def _shift(name: str) -> Element:
    def element(e: Emitter, dtype: DType, a: Reg, b: Reg) -> Reg:
        if dtype.bits == 64:
            b = e.make("b32", "cvt.u32.u64", e.make("b64", "min.u64", b, Int(64)))
        typed = bits(dtype) if name == "shl" else compute_type(dtype)
        return e.make(bits(dtype), f"{name}.{typed}", a, b)

    return element


def _compare(name: str) -> Rule:
    def rule(e: Emitter, op: Op) -> None:
        dtype = dtype_of_operand(op)
        if dtype.kind == "bool":
            pointwise(e, op, lambda a, b: _compare_bool(e, name, a, b))
            return
        test = "neu" if name == "ne" and dtype.is_float else name
        opcode = f"setp.{test}.{compute_type(dtype)}"
        pointwise(e, op, lambda a, b: e.make("pred", opcode, widen(e, dtype, a), widen(e, dtype, b)))

    return rule


def _compare_bool(e: Emitter, name: str, a: Reg, b: Reg) -> Reg:
    differ = e.make("pred", "xor.pred", a, b)
    return differ if name == "ne" else e.make("pred", "not.pred", differ)


def select(e: Emitter, dtype: DType, cond: Reg, a: Reg, b: Reg) -> Reg:
    """a where cond, else b, for registers of any dtype."""
    if a == b:
        return a
    kind = register_type(dtype)
    if kind != "pred":
        return e.make(kind, f"selp.{kind}", a, b, cond)
    chosen = e.make("pred", "and.pred", cond, a)
    other = e.make("pred", "and.pred", e.make("pred", "not.pred", cond), b)
    return e.make("pred", "or.pred", chosen, other)


def _where(e: Emitter, op: Op) -> None:
    dtype = dtype_of_operand(op, 1)
    pointwise(e, op, lambda c, a, b: select(e, dtype, c, a, b))


def _fma(e: Emitter, op: Op) -> None:
    dtype = dtype_of_operand(op)
    native = {"float16": "f16", "bfloat16": "bf16", "float32": "f32", "float64": "f64"}.get(dtype.name)

    def one(a: Reg, b: Reg, c: Reg) -> Reg:
        if native:
            return e.make(register_type(dtype), f"fma.rn.{native}", a, b, c)
        wide = (e.make("f64", "cvt.f64.f32", widen(e, dtype, r)) for r in (a, b, c))
        return narrow_f64(e, dtype, e.make("f64", "fma.rn.f64", *wide))

    def twice(a: Reg, b: Reg, c: Reg) -> Reg:
        return e.make("f64", "add.rn.f64", e.make("f64", "mul.rn.f64", a, b), c)

    pointwise(e, op, twice if dtype.bits == 64 else one)


RULES: dict[str, Rule] = {
    "add": rounded(_simple("add.{t}", "add.rn.{t}")),
    "sub": rounded(_simple("sub.{t}", "sub.rn.{t}")),
    "mul": rounded(_simple("mul.lo.{t}", "mul.rn.{t}")),
    "div": _div,
    "sqrt": rounded(_simple("", "sqrt.rn.{t}")),
    "floor": rounded(_simple("", "cvt.rmi.{t}.{t}")),
    "ceil": rounded(_simple("", "cvt.rpi.{t}.{t}")),
    "rint": rounded(_simple("", "cvt.rni.{t}.{t}")),
    "floordiv": _divided(_floordiv, _shifted),
    "mod": _divided(_mod, _masked),
    "minimum": rounded(extreme("min")),
    "maximum": rounded(extreme("max")),
    "neg": rounded(_neg),
    "abs": rounded(_abs),
    "shl": rounded(_shift("shl")),
    "shr": rounded(_shift("shr")),
    **{name: _logic(name) for name in ("and", "or", "xor", "not")},
    **{name: _compare(name) for name in ("lt", "le", "gt", "ge", "eq", "ne")},
    "where": _where,
    "fma": _fma,
}
