"""Fixtures for all tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(autouse=True, scope="session")
def private_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests neither read nor fill the user's compile cache."""
    patch = pytest.MonkeyPatch()
    patch.setenv("TILEC_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()


@pytest.fixture(scope="session")
def gpu() -> Any:
    """The CUDA driver bindings; the test is skipped, with the reason, where there is no GPU."""
    from tilec.runtime import cuda

    reason = cuda.unavailable()
    if reason is not None:
        pytest.skip(reason)
    return cuda.driver()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test marked `gpu` must ask for the fixture that skips it."""
    for item in items:
        if item.get_closest_marker("gpu") and "gpu" not in getattr(item, "fixturenames", ()):
            raise pytest.UsageError(f"{item.nodeid} is marked gpu but does not use the fixture `gpu`")
