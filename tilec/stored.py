"""Artifacts as JSON, for the cache: plain dataclasses out and in, nothing executable."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from typing import Any

from tilec.backends.artifact import Artifact, CpuArg, CpuProgram, Param, TensorMap
from tilec.ir.types import DType

_CLASSES: dict[str, type[Any]] = {
    c.__name__: c for c in (Artifact, CpuArg, CpuProgram, DType, Param, TensorMap)
}


def dumps(value: object) -> bytes:
    """Canonical JSON of an artifact."""
    return json.dumps(_plain(value), sort_keys=True, ensure_ascii=False).encode()


def loads(data: bytes) -> Any:
    """The artifact of `dumps`. Raises ValueError for anything else."""
    try:
        return _build(json.loads(data))
    except (KeyError, TypeError) as error:
        raise ValueError(f"no stored artifact: {error}") from None


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {
            "class": type(value).__name__,
            **{f.name: _plain(getattr(value, f.name)) for f in fields(value)},
        }
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    return value


def _build(value: Any) -> Any:
    if isinstance(value, dict):
        made = {k: _build(v) for k, v in value.items() if k != "class"}
        return _CLASSES[value["class"]](**made)
    if isinstance(value, list):
        return tuple(_build(v) for v in value)
    return value
