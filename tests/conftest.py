"""Fixtures for all tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from tilec.passes.schedule import joint

# The tests compile hundreds of small loops, whose proofs are the long ones: units bind nothing
# there. A plan that is not proven is a plan as well; proofs have tests of their own.
BUDGET, joint.RLIMIT = joint.RLIMIT, 500_000


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--bless", action="store_true", help="write golden files instead of comparing")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """golden(name, text): text must equal the file golden/NAME.txt beside the test.

    ``pytest --bless`` writes the files; look at the difference before you commit it.
    """
    folder = request.path.parent / "golden"

    def compare(name: str, text: str) -> None:
        path = folder / f"{name}.txt"
        if request.config.getoption("--bless"):
            folder.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert path.exists(), f"{path} is missing: run pytest --bless"
        assert text == path.read_text(encoding="utf-8"), f"{path} differs: pytest --bless accepts it"

    return compare


@pytest.fixture
def real_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """The solver's budget as users have it."""
    monkeypatch.setattr(joint, "RLIMIT", BUDGET)


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


class DeviceArray:
    """A copy of a numpy array in GPU memory, with an array interface."""

    def __init__(self, driver: Any, host: np.ndarray[Any, Any]) -> None:
        self.driver, self.host = driver, host
        from tilec.runtime import cuda

        self.call = cuda._call
        cuda._context(driver)
        self.pointer = self.call(driver, driver.cuMemAlloc(host.nbytes))
        self.call(driver, driver.cuMemcpyHtoD(self.pointer, host.ctypes.data, host.nbytes))

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {"shape": self.host.shape, "typestr": self.host.dtype.str, "data": (int(self.pointer), False),
                "strides": None, "version": 3}  # fmt: skip

    def numpy(self) -> np.ndarray[Any, Any]:
        out = np.empty_like(self.host)
        self.call(self.driver, self.driver.cuCtxSynchronize())
        self.call(self.driver, self.driver.cuMemcpyDtoH(out.ctypes.data, self.pointer, out.nbytes))
        return out


@pytest.fixture(scope="session")
def device(gpu: Any) -> Callable[[np.ndarray[Any, Any]], DeviceArray]:
    """A function that copies a numpy array to the GPU."""
    return lambda host: DeviceArray(gpu, host)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test marked `gpu` must ask for the fixture that skips it."""
    for item in items:
        if item.get_closest_marker("gpu") and "gpu" not in getattr(item, "fixturenames", ()):
            raise pytest.UsageError(f"{item.nodeid} is marked gpu but does not use the fixture `gpu`")
