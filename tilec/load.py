"""What the command line names: FILE:KERNEL, a .tile file, a signature, -D NAME=VALUE."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import click

from tilec.ir.core import Kernel
from tilec.ir.errors import TilecError
from tilec.ir.forms import verify
from tilec.ir.text import parse_kernel
from tilec.kernel import KernelFunction


def split_spec(spec: str) -> tuple[Path, str | None]:
    """FILE[:KERNEL] as a path that exists and a name. Raises click.UsageError."""
    file, colon, name = spec.rpartition(":")
    if not colon or not name.isidentifier():
        file, name = spec, ""
    path = Path(file)
    if not path.is_file():
        raise click.UsageError(f"there is no file {file}")
    return path, name or None


def load_module(path: Path) -> ModuleType:
    """Import a Python file by its path; its folder comes first on sys.path, as for a script."""
    name = f"_tilec_user_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise click.UsageError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with _first_on_path(path.resolve().parent):
            spec.loader.exec_module(module)
    except TilecError:
        raise
    except Exception:
        reason = traceback.format_exc(limit=-1).partition("\n")[2]
        raise click.ClickException(f"{path} cannot be imported:\n{reason}") from None
    return module


@contextmanager
def _first_on_path(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def kernels_of(module: ModuleType) -> dict[str, KernelFunction]:
    """The kernels that a module defines or imports, by name."""
    return {n: v for n, v in vars(module).items() if isinstance(v, KernelFunction)}


def load_kernel(spec: str, signature: str | None, defines: Sequence[str]) -> Kernel:
    """The TILE kernel that the command line names. Raises click.UsageError for a wrong name."""
    path, name = split_spec(spec)
    if path.suffix == ".tile":
        kernel = parse_kernel(path.read_text(encoding="utf-8", errors="replace"), str(path))
        verify(kernel)
        return kernel
    found = kernels_of(load_module(path))
    name = name or (next(iter(found)) if len(found) == 1 else None)
    if name not in found:
        have = ", ".join(found) or "none"
        raise click.UsageError(f"say which kernel: {path}:NAME; {path} has {have}")
    function = found[name]
    if signature is None:
        names = ", ".join(p.name for p in function.runtime)
        raise click.UsageError(f"--signature is missing: a type for each of {names}, as 'f16[2],f16[2],i32'")
    return function.trace(split_signature(signature), **parse_defines(defines))


def split_signature(text: str) -> list[str]:
    """The types of a signature; commas inside of brackets belong to a type."""
    return [part.strip() for part in re.findall(r"(?:[^,\[]|\[[^\]]*\])+", text)]


def parse_defines(defines: Sequence[str]) -> Mapping[str, Any]:
    """NAME=VALUE pairs; a value is a Python literal, and else a string."""
    values: dict[str, Any] = {}
    for define in defines:
        name, equals, text = define.partition("=")
        if not equals or not name.isidentifier():
            raise click.UsageError(f"-D takes NAME=VALUE, not {define!r}")
        values[name] = _literal(text)
    return values


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
