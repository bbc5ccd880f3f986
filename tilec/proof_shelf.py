"""Proofs of schedules in the cache on disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tilec.runtime.cache import Cache, key_of

FILE = "certificate.json"


@dataclass(frozen=True)
class ProofShelf:
    """Certificates in a cache. ``compiler``: facts about who solved; others' proofs are not read."""

    store: Cache
    compiler: Mapping[str, str]

    def get(self, key: str) -> bytes | None:
        files = self.store.get(self._key(key))
        return None if files is None else files.get(FILE)

    def put(self, key: str, data: bytes) -> None:
        self.store.put(self._key(key), {FILE: data})

    def _key(self, key: str) -> str:
        return key_of({"proof": key, "compiler": dict(self.compiler)})
