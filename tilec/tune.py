"""`@tilec.autotune`: which of several sets of constants a kernel is launched with.

For a GPU, configurations are ranked without running anything: by the work per cycle of their
solved loops. On the CPU, where the machine model says nothing, they are timed on copies of the
arguments. What was found is remembered, also in the compile cache.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tilec import signature as sig
from tilec.ir.core import Kernel
from tilec.ir.errors import TilecTypeError, TilecValueError
from tilec.ir.text import print_kernel
from tilec.kernel import KernelFunction, resolve_grid
from tilec.launch import default_backend
from tilec.passes import Options
from tilec.rank import Score, score_text
from tilec.runtime import arrays


@dataclass(frozen=True, init=False)
class Config:
    """A set of constants, and options of the GPU compiler: Config({"BM": 64}, stages=3)."""

    constants: tuple[tuple[str, Any], ...]
    options: Options

    def __init__(self, constants: Mapping[str, Any], **options: Any) -> None:
        object.__setattr__(self, "constants", tuple(dict(constants).items()))
        object.__setattr__(self, "options", Options(**options))


@dataclass(frozen=True)
class Ranked:
    """A configuration with what the model says of it, best first."""

    config: Config
    score: Score


def autotune(
    configs: Sequence[Config], *, repeat: int = 5, executor: Executor | None = None
) -> Callable[[KernelFunction], Tuned]:
    """Decorate a kernel with configurations to choose from.

    On the CPU each is launched ``repeat`` times, after once to compile; the fastest wins.
    ``executor`` solves configurations in other processes: any `concurrent.futures` executor.
    """
    if not configs or not all(isinstance(c, Config) for c in configs):
        raise TilecValueError("V357", "autotune needs at least one tilec.Config",
                              help='@tilec.autotune([tilec.Config({"BM": 64}), ...])')  # fmt: skip

    def decorate(kernel: KernelFunction) -> Tuned:
        if not isinstance(kernel, KernelFunction):
            raise TilecTypeError("T368", f"autotune is put above {type(kernel).__name__}, no kernel",
                                 help="@tilec.autotune(...) stands above @tilec.kernel")  # fmt: skip
        return Tuned(kernel, tuple(configs), repeat, executor)

    return decorate


@dataclass
class Tuned:
    """A kernel that chooses its constants at the first launch of each kind: types, extents, grid, backend."""

    kernel: KernelFunction
    configs: tuple[Config, ...]
    repeat: int
    executor: Executor | None

    def __post_init__(self) -> None:
        self.chosen: dict[Any, Config] = {}

    def __getitem__(self, grid: Any) -> Callable[..., None]:
        return lambda *args, **keywords: self._launch(grid, args, keywords)

    def rank(self, signature: Sequence[Any], target: str = "sm_90a", grid: Any = None) -> list[Ranked]:
        """All configurations, the one with most work per cycle first; those that do not compile last.

        With a ``grid``, programs that leave SMs idle in their last wave count as lost. Ties keep
        the order in which they were given.
        """
        traced = [self.kernel.trace(signature, **dict(c.constants)) for c in self.configs]
        return self._ranked(traced, target, grid)

    def _ranked(self, traced: Sequence[Kernel], target: str, grid: Any) -> list[Ranked]:
        texts = [print_kernel(k, locs=True) for k in traced]
        options = [asdict(c.options) for c in self.configs]
        grids = [None if grid is None else self._grid(grid, c) for c in self.configs]
        spread = self.executor.map if self.executor is not None else map
        scores = list(spread(score_text, texts, [target] * len(texts), options, grids))
        ranked = [Ranked(c, s) for c, s in zip(self.configs, scores, strict=True)]
        return sorted(ranked, key=lambda r: -r.score.rate)

    def _grid(self, grid: Any, config: Config) -> tuple[int, ...]:
        return resolve_grid(grid, {**_defaults(self.kernel), **dict(config.constants)})

    def _launch(self, grid: Any, args: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        config = self._choose(grid, args, keywords)
        extra: dict[str, Any] = {"options": config.options} if config.options != Options() else {}
        self.kernel[grid](*args, **dict(config.constants), **extra, **keywords)

    def _choose(self, grid: Any, args: tuple[Any, ...], keywords: dict[str, Any]) -> Config:
        """The configuration for arguments of this kind, found at their first launch."""
        given = {k: v for k, v in keywords.items() if k in self.kernel.constexprs}
        first = {**dict(self.configs[0].constants), **given}
        values, _ = sig.split(self.kernel.name, self.kernel.params, args, first)
        types = tuple(sig.argument_type(p, values[p.name]) for p in self.kernel.runtime)
        backend = keywords.get("backend") or default_backend(list(values.values()))
        target = "cpu" if backend == "cpu" else keywords.get("target", "sm_90a")
        shapes = tuple(tuple(getattr(v, "shape", ())) for v in values.values())
        grids = tuple(self._grid(grid, c) for c in self.configs)
        kind = (types, shapes, grids, target, tuple(given.items()))
        if kind not in self.chosen:
            traced = [self.kernel.trace(types, **{**dict(c.constants), **given}) for c in self.configs]
            key = self._key(traced, target, shapes, grids)
            self.chosen[kind] = self._stored(key) or self._best(key, traced, target, grid, args, keywords)
        return self.chosen[kind]

    def _best(
        self, key: str, traced: Sequence[Kernel], target: str, grid: Any, args: tuple[Any, ...],
        keywords: dict[str, Any],
    ) -> Config:  # fmt: skip
        """By the clock on the CPU, by the model elsewhere."""
        if target == "cpu":
            times = [self._time(c, grid, args, keywords) for c in self.configs]
            order = sorted(range(len(times)), key=times.__getitem__)
        else:
            ranked = self._ranked(traced, target, grid)
            _require(ranked)
            times, order = [], [self.configs.index(r.config) for r in ranked]
        self._store(key, order[0], times)
        return self.configs[order[0]]

    def _time(self, config: Config, grid: Any, args: tuple[Any, ...], keywords: dict[str, Any]) -> float:
        """Seconds of the fastest of some launches, on copies; infinite for what cannot run."""
        copies = [np.array(arrays.view(a)) if arrays.is_array(a) else a for a in args]
        best = float("inf")
        for _ in range(self.repeat + 1):  # the first one compiles
            start = time.perf_counter()
            self.kernel[grid](*copies, **dict(config.constants), **keywords)
            best = min(best, time.perf_counter() - start)
        return best

    def _key(self, traced: Sequence[Kernel], target: str, shapes: Any, grids: Any) -> str:
        """What decides the choice: the kernels, the compiler, the host, the extents."""
        from tilec.driver import cache_key
        from tilec.runtime.cache import key_of

        pairs = zip(traced, self.configs, strict=True)
        keys = [cache_key(k, target, c.options) for k, c in pairs]
        return key_of({"tuned": keys, "shapes": shapes, "grids": grids})

    def _stored(self, key: str) -> Config | None:
        found = _cache().get(key) if _cache() else None
        number = json.loads(found["tuned.json"])["best"] if found and "tuned.json" in found else None
        return None if number is None else self.configs[number]

    def _store(self, key: str, best: int, times: list[float]) -> None:
        if _cache():
            _cache().put(key, {"tuned.json": json.dumps({"best": best, "seconds": times}).encode()})


def _cache() -> Any:
    from tilec.driver import default_cache
    from tilec.runtime.config import config

    return default_cache() if config().cache else None


def _defaults(kernel: KernelFunction) -> dict[str, Any]:
    return {p.name: p.default for p in kernel.params if p.kind == "constexpr" and p.default is not sig._EMPTY}


def _require(ranked: Sequence[Ranked]) -> None:
    """At least one configuration compiles."""
    if ranked[0].score.error:
        raise TilecValueError("V358", f"no configuration compiles; the first says {ranked[0].score.error}",
                              help="smaller tiles or fewer stages")  # fmt: skip
