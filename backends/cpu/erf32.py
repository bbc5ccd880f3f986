"""The error function of float32, with at most 2 ulp of error.

Where one instruction looks 16 numbers up in a register, |x| below 4 is cut into 16 pieces, each with a
polynomial of its own; elsewhere there are two polynomials. Coefficients of the pieces are those of least
error (Lawson's weights), rounded to float32 from the lowest on, each time fitting the rest again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir

from tilec.backends.cpu.exponential import clamp, poly
from tilec.backends.cpu.lanes import F32, I32, Lanes, Literal, scalar_constant

# erf(x) / x in x**2 for |x| <= 1, and erf(t + 2.5) for |t| <= 1.5.
_ERF_SMALL = (
    1.1283791670954935, -0.3761263890280737, 0.11283791658529845, -0.026866169048939632,
    0.0052239671849196164, -0.0008547933472387388, 0.00012046256483316617, -1.4794981069054969e-05,
    1.5306089648663069e-06, -1.0468449070536428e-07,
)  # fmt: skip
_ERF_LARGE = (
    0.9995930479825548, 0.0021782842467481566, -0.005445710573607391, 0.008350089013377497,
    -0.008622375152230416, 0.006117353406978154, -0.002798489455289718, 0.0005423868668037818,
    0.0002606671300597108, -0.00025022803107130895, 7.880852373223852e-05, 5.050901451197754e-06,
    -1.4090096832789197e-05, 4.7731618300007286e-06, 1.9000684824098195e-07, -6.920234570611429e-07,
    1.7480119498572567e-07, 3.810874598586724e-08, -2.2556751916309732e-08, -4.3785908428730344e-10,
    1.0788579385319443e-09,
)  # fmt: skip
# erf(k * WIDTH + d) in d, for |d| <= WIDTH / 2, a column for each k: a row for the constant, one for
# what float32 rounds off it, and one for each further power of d.
_WIDTH = 33 / 128
_PIECES = (
    (0.0, 0.2845914363861084, 0.5341230034828186, 0.725959837436676, 0.8552718162536621,
     0.9316980838775635, 0.9713020920753479, 0.9892958998680115, 0.9964637756347656,
     0.9989671111106873, 0.9997336864471436, 0.9999394416809082, 0.9999878406524658,
     0.9999978542327881, 0.9999996423721313, 0.9999999403953552),
    (0.0, -1.3202137161272276e-08, 2.402755505670484e-08, 2.953028932495272e-10,
     -4.731854907902289e-09, -7.020834580373503e-09, 4.606648840166372e-09, 1.1911700958933125e-08,
     -2.486999228779041e-08, 2.0754193030825263e-08, -2.0739992834251098e-08, -1.0508988124158236e-09,
     2.844507385191264e-08, 6.7161223249456725e-09, 2.582340741241751e-08, 1.4352492527791583e-08),
    (1.128379225730896, 1.0558171272277832, 0.8649471402168274, 0.6203798651695251, 0.38957679271698,
     0.21418826282024384, 0.10310163348913193, 0.04345128685235977, 0.016032712534070015,
     0.00517939031124115, 0.0014649328077211976, 0.0003627640544436872, 7.864995131967589e-05,
     1.492933643021388e-05, 2.481136789356242e-06, 3.610185217439721e-07),
    (-1.4229718544811476e-05, -0.27219682931900024, -0.4459807872772217, -0.4798213541507721,
     -0.40175217390060425, -0.27610543370246887, -0.15948805212974548, -0.07841704040765762,
     -0.03306735306978226, -0.0120173254981637, -0.003776395693421364, -0.001028573838993907,
     -0.00024324220430571586, -5.001055251341313e-05, -8.94846107257763e-06, -1.39460212267295e-06),
    (-0.37558573484420776, -0.30515745282173157, -0.13501112163066864, 0.04061037302017212,
     0.14633940160274506, 0.16587966680526733, 0.13010340929031372, 0.079862080514431,
     0.04012428969144821, 0.016863679513335228, 0.006002816371619701, 0.0018239200580865145,
     0.0004755384288728237, 0.00010678610851755366, 2.0710245735244825e-05, 3.476183337625116e-06),
    (-0.006546171382069588, 0.12906897068023682, 0.18224705755710602, 0.14364206790924072,
     0.05864541232585907, -0.01433547493070364, -0.047026678919792175, -0.04575549438595772,
     -0.030374914407730103, -0.015635520219802856, -0.006540791597217321, -0.0022758275736123323,
     -0.0006675056065432727, -0.0001664519659243524, -3.549608663888648e-05, -6.50060610496439e-06),
    (0.13725978136062622, 0.07790908217430115, 0.0029462911188602448, -0.056185804307460785,
     -0.06752372533082962, -0.0420721061527729, -0.009828985668718815, 0.009014956653118134,
     0.012922931462526321, 0.00937329139560461, 0.004902446176856756, 0.002016747137531638,
     0.0006772821070626378, 0.00018935288244392723, 4.4605490984395146e-05, 8.924416761146858e-06),
)  # fmt: skip
# Adding it rounds a small number to an integer, which is then the low bits.
_MAGIC = 1.5 * 2.0**23


def erf(e: Lanes, x: Any) -> Any:
    """The error function. An element has the same value in a vector of any length."""
    if not e.target.scalef or e.target.vector_bytes != 64:
        return _by_polynomials(e, x)
    if e.lanes > 16:
        half = Lanes(e.b, e.lanes // 2, e.target)
        parts = [erf(half, _lanes(e, x, range(start, start + half.lanes))) for start in (0, half.lanes)]
        return _lanes(e, parts[0], range(e.lanes), parts[1])
    wide = Lanes(e.b, 16, e.target)
    if e.lanes == 1:
        return e.b.extract_element(_by_pieces(wide, wide.splat(x)), I32(0))
    padded = _lanes(e, x, [i % e.lanes for i in range(16)])
    return _lanes(e, _by_pieces(wide, padded), range(e.lanes))


def _lanes(e: Lanes, x: Any, which: Sequence[int], y: Any = None) -> Any:
    """Lanes of a vector, or of two behind each other."""
    if y is None and list(which) == list(range(x.type.count)):
        return x
    index = ir.Constant(ir.VectorType(I32, len(which)), list(which))
    return e.b.shuffle_vector(x, x if y is None else y, index)


def _by_pieces(e: Lanes, x: Any) -> Any:
    b, magic = e.b, e.const(F32, _MAGIC)
    size = e.intrinsic("fabs", x)
    top = e.const(F32, 3.99)  # From here on the value is 1; a NaN stays.
    size = b.select(b.fcmp_ordered(">", size, top), top, size)
    rounded = e.fma(size, e.const(F32, 1 / _WIDTH), magic)
    rest = e.fma(b.fsub(magic, rounded), e.const(F32, _WIDTH), size)
    piece = b.bitcast(rounded, e.vec(I32))
    first, lost, second, *others, value = (_looked_up(e, row, piece) for row in _PIECES)
    for coefficient in reversed(others):
        value = e.fma(value, rest, coefficient)
    value = b.fadd(first, e.fma(b.fmul(rest, rest), value, lost))
    # The linear term comes last: near 0 it is all that counts.
    value = e.fma(second, rest, value)
    return e.intrinsic("copysign", value, x)


def _looked_up(e: Lanes, row: tuple[float, ...], index: Any) -> Any:
    """row[index % 16] in each of 16 lanes."""
    numbers = ", ".join(str(scalar_constant(F32, v)) for v in row)
    table = Literal(e.vec(F32), f"<{numbers}>")
    return e.call("llvm.x86.avx512.permvar.sf.512", table.type, table, index)


def _by_polynomials(e: Lanes, x: Any) -> Any:
    """Below 1 as x + x * small, beyond as 0.9996 + small: rounding of the small part hardly counts."""
    size = e.intrinsic("fabs", x)
    near = (_ERF_SMALL[0] - 1.0, *_ERF_SMALL[1:])
    small = e.fma(x, poly(e, F32, e.b.fmul(x, x), near), x)
    t = e.b.fsub(clamp(e, F32, size, 0.0, 4.0), e.const(F32, 2.5))
    large = e.intrinsic("copysign", poly(e, F32, t, _ERF_LARGE), x)
    value = e.b.select(e.b.fcmp_ordered("<", size, e.const(F32, 1.0)), small, large)
    beyond = e.b.fcmp_ordered(">", size, e.const(F32, 3.95))
    return e.b.select(beyond, e.intrinsic("copysign", e.const(F32, 1.0), x), value)
