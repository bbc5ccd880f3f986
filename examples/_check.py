"""How every example is checked: against float64, within a bound that theory gives.

A check runs the kernel on outputs filled with NaN, compares every element with the
float64 formula, and makes sure that the inputs are as before. The bound is computed
per element from the sizes of the terms, never guessed; a case whose bound would
also accept zeros is refused, because it would check nothing.
"""

from __future__ import annotations

import hashlib
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import ml_dtypes
import numpy as np

Array = np.ndarray[Any, Any]

# Unit roundoffs. Tensor cores truncate when they accumulate in float32, hence 2^-23.
U32 = 2.0**-23
UNIT = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}
TINY = 2.0**-126  # results below may be flushed to zero
FUNCTION = 4 * U32  # relative error of exp, exp2, erf, rsqrt in float32


@dataclass(frozen=True)
class Case:
    """One launch and what must come out.

    ``args`` are the kernel's run-time arguments, ``output`` the index of the tensor
    that it writes. ``expected`` and ``bound`` are float64 arrays of its shape.
    ``others`` has expected and bound of further outputs by their index.
    ``baseline`` computes the same with numpy in float32, for the comparison of speed.
    With ``zeroed`` the outputs start as zeros, for kernels that add to them.
    """

    title: str
    kernel: Any
    grid: Callable[[Mapping[str, Any]], tuple[int, ...]]
    args: tuple[Any, ...]
    output: int
    expected: Array
    bound: Array
    baseline: Callable[[], object]
    meta: Mapping[str, Any] = field(default_factory=dict)
    others: Mapping[int, tuple[Array, Array]] = field(default_factory=dict)
    zeroed: bool = False

    @property
    def outputs(self) -> list[Array]:
        """The tensors that the kernel writes, the main one first."""
        return [self.args[i] for i in (self.output, *self.others)]

    def parts(self) -> list[Case]:
        """A case of one output for each of them."""
        more = [replace(self, output=i, expected=e, bound=b, others={}) for i, (e, b) in self.others.items()]
        return [replace(self, others={}), *more]

    def launch(self, backend: str | None = None) -> Array:
        """Run on the arguments as they are; gives the output tensor."""
        self.kernel[self.grid](*self.args, backend=backend, **self.meta)
        result: Array = self.args[self.output]
        return result


def unit(array: Array) -> float:
    """The relative error of one rounding to the array's dtype."""
    return UNIT[array.dtype.name]


def rounding(array: Array, values: Array) -> Array:
    """The error of rounding values to the array's dtype, where they may also be subnormal."""
    half_step = float(ml_dtypes.finfo(array.dtype).smallest_subnormal) / 2
    return unit(array) * np.abs(values) + half_step


def poison(case: Case) -> None:
    """Fill the outputs with NaN (integers: a large number), so that a missing store shows."""
    for array in case.outputs:
        array[...] = np.nan if array.dtype.kind in "fV" else np.iinfo(array.dtype).max
        if case.zeroed:
            array[...] = 0


def fingerprint(case: Case) -> list[str]:
    """A hash of every input tensor."""
    written = {case.output, *case.others}
    arrays = [a for i, a in enumerate(case.args) if i not in written and isinstance(a, np.ndarray)]
    return [hashlib.sha256(np.ascontiguousarray(a).view(np.uint8)).hexdigest() for a in arrays]


def error_of(case: Case) -> tuple[float, tuple[int, ...]]:
    """`error_ratio` of what the outputs hold; of several the worst."""
    return max(error_ratio(part, part.args[part.output]) for part in case.parts())


def error_ratio(case: Case, found: Array) -> tuple[float, tuple[int, ...]]:
    """The largest error divided by its bound, and where; above 1 is wrong. NaN counts as infinite."""
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.abs(found.astype(np.float64) - case.expected)
        equal = found.astype(np.float64) == case.expected  # also two infinities
        ratio = np.where(equal, 0.0, error / case.bound)
    ratio = np.where(np.isnan(ratio), np.inf, ratio)
    if ratio.size == 0:
        return 0.0, ()
    place = np.unravel_index(int(np.argmax(ratio)), ratio.shape)
    return float(ratio[place]), tuple(int(i) for i in place)


def is_vacuous(case: Case) -> bool:
    """Whether zeros or the mean would pass for one of the results."""
    return any(
        error_ratio(part, np.full_like(part.expected, constant))[0] <= 1
        for part in case.parts()
        if part.expected.size > 1
        for constant in (0.0, float(np.mean(part.expected, where=np.isfinite(part.expected))))
    )


def check(case: Case, backend: str | None = None) -> tuple[float, tuple[int, ...]]:
    """Run once; gives the error in units of the bound and its place. Raises if an input changed."""
    before = fingerprint(case)
    poison(case)
    case.launch(backend)
    ratio = error_of(case)
    if fingerprint(case) != before:
        raise RuntimeError(f"{case.title}: the kernel changed one of its inputs")
    return ratio


def seconds(run: Callable[[], object], budget: float = 0.3) -> float:
    """The median time of one call, after a warm-up, within about ``budget`` seconds."""
    run()
    times: list[float] = []
    while len(times) < 3 or (sum(times) < budget and len(times) < 100):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def report(case: Case, backend: str | None) -> bool:
    """Check and time one case, print a line; gives whether it is right."""
    if is_vacuous(case):
        print(f"{case.title}: the bound would accept a constant, so this case checks nothing")
        return False
    ratio, place = check(case, backend)
    if not ratio <= 1:
        print(f"{case.title}: WRONG, error is {ratio:.3g} times the bound at {place}")
        return False
    ours, numpys = seconds(lambda: case.launch(backend)), seconds(case.baseline)
    again, _ = (0.0, ()) if case.zeroed else error_of(case)  # a sum that goes on cannot be checked again
    print(
        f"{case.title:<44} {sum(a.size for a in case.outputs):>8} values right (error {ratio:.2g} of bound)"
        f"  tilec {ours * 1e3:8.2f} ms  numpy {numpys * 1e3:8.2f} ms  {numpys / ours:4.1f}x"
    )
    return again <= 1


def run_all(
    cases: Iterable[Case],
    *,
    kernel: str | None = None,
    backend: str | None = None,
    meta: Mapping[str, Any] | None = None,
) -> int:
    """Report every case (of one kernel); gives the exit code, 1 if anything is wrong."""
    chosen = [c for c in cases if kernel in (None, c.kernel.__name__)]
    if not chosen:
        print(f"no case of a kernel named {kernel}")
        return 1
    print("every value is compared with the float64 formula; 1 of bound is the most that theory allows")
    results = [report(replace(c, meta={**c.meta, **(meta or {})}), backend) for c in chosen]
    return 0 if all(results) else 1
