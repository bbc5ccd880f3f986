"""What a compilation gives: the kernel in every form, the artifact, and why it is as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from tilec.backends.artifact import Artifact, CpuProgram
from tilec.ir.core import Kernel
from tilec.ir.errors import TilecValueError, UnsupportedError
from tilec.ir.text import print_kernel
from tilec.passes import Options, Stages
from tilec.passes.schedule.document import answer_data, canonical, problem_data
from tilec.passes.schedule.model import Answer


@dataclass(frozen=True)
class Compiled:
    """One specialisation of a kernel for one target. Stages that nobody asked for are made on demand.

    ``log`` has a line per step with its time; ``cached`` says that the artifact was read
    from the cache.
    """

    kernel: Kernel
    target: str
    options: Options
    artifact: Artifact | CpuProgram
    log: tuple[str, ...] = ()
    cached: bool = False
    _stages: Stages | None = field(default=None, repr=False)

    @cached_property
    def stages(self) -> Stages:
        """The kernel in each form."""
        from tilec.driver import lowered

        return self._stages or lowered(self.kernel, self.target, self.options)

    @property
    def tile(self) -> Kernel:
        return self.stages.tile

    @property
    def aref(self) -> Kernel:
        return self.stages.aref

    @property
    def scheduled(self) -> Kernel:
        return self.stages.scheduled

    @property
    def schedule(self) -> tuple[Answer, ...]:
        """What the solver answered for each loop that fills a ring, in program order."""
        return self.stages.answers

    @property
    def notes(self) -> tuple[str, ...]:
        """Why parts of the kernel are not asynchronous or not specialised."""
        notes: tuple[str, ...] = self.scheduled.attrs.get("notes", ())
        return notes

    @property
    def asm(self) -> Asm:
        """Every stage as text: "tile", "aref", "scheduled", then "llvm" or "ptx", "cubin", "sass"."""
        return Asm(self)

    def report(self, path: str | Path | None = None, **ask: Any) -> Path:
        """Write the schedule explorer page, by default NAME.html here; a path to `.json`: its document.

        ``ask``: fields of `tilec.report.Ask`, as ``trips`` and ``programs`` for a predicted time.
        """
        from tilec.report import Ask, of_compiled, page

        target = Path(path or f"{self.kernel.name}.html")
        made = of_compiled(self, Ask(**ask))
        text = canonical(made) if target.suffix == ".json" else page([made])
        target.write_text(text, encoding="utf-8")
        return target

    def _repr_html_(self) -> str:
        """The page in a frame of its own, for notebooks."""
        from html import escape

        from tilec.report import of_compiled, page

        inner = escape(page([of_compiled(self)]), quote=True)
        return f'<iframe title="schedule" srcdoc="{inner}" width="100%" height="800"></iframe>'


class MissingStageError(TilecValueError, KeyError):
    """A stage that there is not, both as a TilecError and as a mapping must raise it."""


@dataclass(frozen=True)
class Asm(Mapping[str, Any]):
    """The stages of a Compiled by name; text, but bytes for "cubin". Made when they are read."""

    compiled: Compiled

    def __getitem__(self, name: str) -> Any:
        makers = self._makers()
        if name not in makers:
            raise MissingStageError(
                "V502",
                f"no stage named {name!r} for {self.compiled.target}",
                help=f"one of {', '.join(makers)}",
            )
        return makers[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers())

    def __len__(self) -> int:
        return len(self._makers())

    def _makers(self) -> dict[str, Callable[[], Any]]:
        c = self.compiled
        made: dict[str, Callable[[], Any]] = {
            "tile": lambda: print_kernel(c.tile),
            "aref": lambda: print_kernel(c.aref),
            "scheduled": lambda: print_kernel(c.scheduled),
        }
        if isinstance(c.artifact, CpuProgram):
            return {**made, "llvm": lambda: c.artifact.text}
        return {**made, "ptx": lambda: c.artifact.text, "cubin": self._cubin, "sass": self._sass}

    def _cubin(self) -> bytes:
        from tilec.runtime.toolchain import assemble

        return assemble(self.compiled.artifact.text, self.compiled.target).cubin

    def _sass(self) -> str:
        from tilec.runtime.toolchain import disassemble

        return disassemble(self._cubin())


def _answers(stages: Stages) -> str:
    """The answers of the ring loops as JSON (docs/schedule-json.md), each with its problem."""
    found = zip(stages.problems, stages.answers, strict=True)
    return canonical([{"problem": problem_data(p), "answer": answer_data(p, a)} for p, a in found])


def write_stages(compiled: Compiled, folder: Path) -> list[Path]:
    """Write every stage that this machine can make, the schedules and the log; gives the files."""
    made, log = {}, [*compiled.log, *compiled.notes]
    for stage in compiled.asm:
        try:
            made[stage] = compiled.asm[stage]
        except UnsupportedError as error:
            log.append(f"{stage}: {error.message}")
    if compiled.schedule:
        made["schedule.json"] = _answers(compiled.stages) + "\n"
    made["log"] = "".join(f"{line}\n" for line in log)
    folder.mkdir(parents=True, exist_ok=True)
    for suffix, content in made.items():
        data = content if isinstance(content, bytes) else content.encode()
        (folder / f"{compiled.kernel.name}.{suffix}").write_bytes(data)
    return [folder / f"{compiled.kernel.name}.{suffix}" for suffix in made]
