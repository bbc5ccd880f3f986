"""Formulas as SMT-LIB text, and one solver that reads them.

Text is the encoding's only form: it is what z3 reads here (thirty times faster than its
Python interface builds the same terms) and what a certificate carries to another solver.
z3 is imported when the first `Session` is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple, cast

Clause = tuple[str, ...]
Verdict = Literal["sat", "unsat", "unknown"]


class Sum(NamedTuple):
    """A sum of variables and a number: plus - minus + const."""

    plus: tuple[str, ...] = ()
    minus: tuple[str, ...] = ()
    const: int = 0

    def add(self, const: int) -> Sum:
        return Sum(self.plus, self.minus, self.const + const)

    def negated(self) -> Sum:
        return Sum(self.minus, self.plus, -self.const)


def number(n: int) -> str:
    """SMT-LIB has no negative literals."""
    return str(n) if n >= 0 else f"(- {-n})"


def total(terms: Sequence[str]) -> str:
    """The sum of terms; none is 0."""
    if len(terms) < 2:
        return terms[0] if terms else "0"
    return f"(+ {' '.join(terms)})"


def negate(literal: str) -> str:
    """The opposite of a literal."""
    return literal[5:-1] if literal.startswith("(not ") else f"(not {literal})"


def either(clause: Clause) -> str:
    """A clause as one term; the empty one is false."""
    if len(clause) < 2:
        return clause[0] if clause else "false"
    return f"(or {' '.join(clause)})"


def declare(name: str, sort: Literal["Int", "Bool"]) -> str:
    return f"(declare-fun {name} () {sort})\n"


class Session:
    """One z3 solver with its own context, a fixed seed and a budget of resource units.

    ``texts`` is all that it has read. ``work`` counts z3's resource units over all checks:
    they do not depend on the machine. One check may take a part of what is left, 1 / ``parts``.
    """

    seed = 0
    parts = 1

    def __init__(self, rlimit: int) -> None:
        import z3

        self.z3, self.rlimit, self.work = z3, rlimit, 0
        self.context = z3.Context()
        self.solver: Any = z3.SimpleSolver(ctx=self.context)
        self.solver.set("random_seed", self.seed)
        self.known: dict[str, Any] = {}
        self.texts: list[str] = []

    def read(self, text: str) -> None:
        """Add declarations and assertions."""
        self.texts.append(text)
        self.solver.from_string(text)

    def check(self, assumptions: Iterable[str] = ()) -> Verdict:
        """Whether the assertions hold under Boolean assumptions; "unknown" when the budget is spent."""
        if self.work >= self.rlimit:
            return "unknown"
        left = (self.rlimit - self.work) // self.parts
        self.solver.set("rlimit", max(1, min(left, 2**32 - 1)))
        verdict = str(self.solver.check(*[self._constant(a) for a in assumptions]))
        self._count()
        return cast(Verdict, verdict)

    def _count(self) -> None:
        """z3's counter runs on over all checks of a context."""
        statistics = self.solver.statistics()
        self.work = int(statistics.get_key_value("rlimit count"))

    def core(self) -> list[str]:
        """Assumptions of the last check that suffice for its "unsat", in order of name."""
        return sorted(str(a) for a in self.solver.unsat_core())

    def values(self, names: Sequence[str]) -> list[int]:
        """The model's values of integers and Booleans (0, 1)."""
        model = self.solver.model()
        return [self._value(model, name) for name in names]

    def _value(self, model: Any, name: str) -> int:
        value = model.eval(self._constant(name), model_completion=True)
        if self.z3.is_int_value(value):
            return int(value.as_long())
        return int(self.z3.is_true(value))

    def _constant(self, name: str) -> Any:
        """A declared constant by name."""
        if name not in self.known:
            make = self.z3.Int if name[0] in INTEGERS else self.z3.Bool
            self.known[name] = make(name, self.context)
        return self.known[name]


INTEGERS = "Irsdolbxq"
"""First letters of integer variables; Booleans start with others."""
