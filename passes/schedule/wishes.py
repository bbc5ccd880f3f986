"""Wishes as hints on a problem."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

from tilec.passes.schedule.model import Hint, HintKind, Problem


def wished(problem: Problem, values: Mapping[str, int]) -> Problem:
    """The problem with a hint "--KIND" for each kind of `model.Hint`; more groups are allowed if wished."""
    hints = tuple(Hint(f"--{kind}", cast(HintKind, kind), value) for kind, value in values.items())
    groups = max(problem.groups_max, values.get("groups", 1))
    return replace(problem, hints=(*problem.hints, *hints), groups_max=groups)
