"""What the emulator reports: faults that stop it, and a list of hazards."""

from __future__ import annotations

from dataclasses import dataclass

from tilec.ir.errors import DeadlockError, TilecError
from tilec.ir.loc import UNKNOWN, Loc
from tilec.ir.ptx.module import Instruction
from tilec.ir.ptx.printer import instruction_text


@dataclass(frozen=True)
class Report:
    """A finding that does not stop the run. Codes beginning with E are errors, with W warnings.
    ``other_line`` is the earlier one of two instructions, 0 where only one is at fault."""

    code: str
    message: str
    line: int
    loc: Loc
    other_line: int = 0
    other_loc: Loc = UNKNOWN

    def __str__(self) -> str:
        where = "" if self.loc is UNKNOWN else f" ({self.loc})"
        return f"{self.code}: {self.message} at PTX line {self.line}{where}"


class EmulatorError(TilecError):
    """The program did what hardware rejects, faults on, or leaves undefined. ``reports`` are the
    findings before that."""

    reports: tuple[Report, ...] = ()


class Deadlock(DeadlockError):
    """No thread can go on. ``reports`` are the findings before that, and what explains it; ``spins``:
    threads run, but get nowhere."""

    reports: tuple[Report, ...] = ()
    spins: bool = False


def where(inst: Instruction) -> str:
    """ "PTX line 12: text (source)": how all messages name an instruction."""
    text = instruction_text(inst)
    text = text if len(text) <= 100 else text[:97] + "..."
    source = "" if inst.loc is UNKNOWN else f" ({inst.loc})"
    return f"PTX line {inst.line}: {text}{source}"


def fault(code: str, message: str, inst: Instruction, help: str = "") -> EmulatorError:
    """An error at an instruction."""
    loc = None if inst.loc is UNKNOWN else inst.loc
    return EmulatorError(code, f"{message} at {where(inst)}", help=help, loc=loc)
