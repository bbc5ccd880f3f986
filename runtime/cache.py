"""A content-addressed cache on disk, safe under concurrent processes and kill -9.

An entry is a folder that is written under a temporary name and published by one
rename; its manifest holds the sha256 of every file and is checked on each read.
So a reader sees a whole entry or none, and a damaged one counts as a miss.
Entries are raw bytes and JSON, so that reading one runs nothing; what an entry
holds (PTX, LLVM IR) is compiled by whoever asked for it.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import shutil
import time
import uuid
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

MANIFEST = "manifest.json"
FORMAT = "v1"
LIMIT = 2 * 1024**3  # bytes
STALE = 3600.0  # seconds after which a temporary folder belongs to a dead process
SWEEP_EVERY = 64  # puts of one process between two looks at the size

Files = Mapping[str, bytes]


def key_of(parts: Mapping[str, object]) -> str:
    """The hex key of what decides a result. Parts must be JSON data; their order does not matter."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def source_digest(folders: Iterable[Path]) -> str:
    """A hash over the names and contents of all Python files in the folders."""
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted(folder.rglob("*.py")):
            digest.update(f"{folder.name}/{path.relative_to(folder).as_posix()}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


@dataclass(frozen=True)
class Usage:
    """What is on disk: number of entries and their bytes."""

    entries: int
    bytes: int


@dataclass
class Cache:
    """Entries under ``root``, at most about ``limit`` bytes; the least recently used go first."""

    root: Path
    limit: int = LIMIT
    sweep_every: int = SWEEP_EVERY
    _puts: Iterator[int] = field(default_factory=itertools.count, repr=False)

    def get(self, key: str) -> dict[str, bytes] | None:
        """The files of an entry, or None. A damaged entry is removed."""
        entry = self._entry(key)
        if not entry.is_dir():
            return None
        try:
            files = _read_checked(entry, key)
        except (OSError, ValueError):
            self._discard(entry)
            return None
        with contextlib.suppress(OSError):
            os.utime(entry)
        return files

    def put(self, key: str, files: Files) -> None:
        """Publish an entry. If the folder cannot be written: a warning, once, and no entry."""
        try:
            self._publish(key, files)
            if next(self._puts) % self.sweep_every == 0:
                self.sweep()
        except OSError as error:
            _warn_once(self.root, error)

    def usage(self) -> Usage:
        """Entries and bytes on disk now."""
        sizes = [size for _, size, _ in self._entries()]
        return Usage(len(sizes), sum(sizes))

    def clear(self) -> Usage:
        """Remove every entry; gives what was removed."""
        before = self.usage()
        for entry, _, _ in self._entries():
            self._discard(entry)
        return before

    def sweep(self) -> None:
        """Drop left-overs of dead processes, and old entries until the limit holds."""
        for folder in _folders(self._temporary):
            if _age(folder) > STALE:
                shutil.rmtree(folder, ignore_errors=True)
        entries = sorted(self._entries(), key=lambda e: e[2])
        total = sum(size for _, size, _ in entries)
        for entry, size, _ in entries:
            if total <= self.limit:
                return
            self._discard(entry)
            total -= size

    @property
    def _home(self) -> Path:
        return self.root / FORMAT

    @property
    def _temporary(self) -> Path:
        return self._home / "tmp"

    def _entry(self, key: str) -> Path:
        return self._home / key[:2] / key

    def _entries(self) -> Iterator[tuple[Path, int, float]]:
        for group in _folders(self._home):
            if group != self._temporary:
                for entry in _folders(group):
                    with contextlib.suppress(OSError):
                        yield entry, _size(entry), entry.stat().st_mtime

    def _publish(self, key: str, files: Files) -> None:
        draft, entry = self._draft(), self._entry(key)
        try:
            draft.mkdir(parents=True)
            _write(draft, key, files)
            entry.parent.mkdir(exist_ok=True)
            os.rename(draft, entry)
        except OSError:
            # A rename onto an entry that another process published first is no failure.
            if not entry.is_dir():
                raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def _discard(self, entry: Path) -> None:
        """Take an entry out of sight by one rename, then delete it."""
        grave = self._draft()
        with contextlib.suppress(OSError):
            self._temporary.mkdir(exist_ok=True)
            os.rename(entry, grave)
        shutil.rmtree(grave, ignore_errors=True)

    def _draft(self) -> Path:
        return self._temporary / uuid.uuid4().hex


def _write(folder: Path, key: str, files: Files) -> None:
    for name, data in files.items():
        (folder / name).write_bytes(data)
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    manifest = json.dumps({"key": key, "files": hashes}, sort_keys=True)
    (folder / MANIFEST).write_text(manifest, encoding="utf-8")


def _read_checked(entry: Path, key: str) -> dict[str, bytes]:
    """The files of an entry. Raises ValueError or OSError where it is damaged."""
    manifest = json.loads((entry / MANIFEST).read_text(encoding="utf-8"))
    if not isinstance(manifest, dict) or manifest.get("key") != key:
        raise ValueError("the manifest is of another entry")
    hashes = manifest.get("files")
    if not isinstance(hashes, dict):
        raise ValueError("the manifest lists no files")
    files = {}
    for name, expected in hashes.items():
        files[name] = (entry / Path(name).name).read_bytes()
        if hashlib.sha256(files[name]).hexdigest() != expected:
            raise ValueError(f"{name} does not have its hash")
    return files


def _folders(parent: Path) -> list[Path]:
    try:
        return sorted(p for p in parent.iterdir() if p.is_dir())
    except OSError:
        return []


def _size(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.iterdir())


def _age(folder: Path) -> float:
    with contextlib.suppress(OSError):
        return time.time() - folder.stat().st_mtime
    return 0.0


_warned: set[Path] = set()


def _warn_once(root: Path, error: OSError) -> None:
    if root not in _warned:
        _warned.add(root)
        warnings.warn(
            f"tilec works without its cache: {root} cannot be written ({error}); "
            "set TILEC_CACHE_DIR to a folder that can",
            RuntimeWarning,
            stacklevel=4,
        )
