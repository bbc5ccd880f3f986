"""The cache on disk: whole entries or none, whatever other processes do."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
import time
import warnings
from pathlib import Path

import pytest

from tilec.runtime import cache as cache_module
from tilec.runtime.cache import Cache, key_of, source_digest

KEY = key_of({"what": "test"})
FILES = {"a.ptx": b".version 8.0\n" * 50, "meta.json": b"{}"}

# A process that writes and reads one key for a while. Its entry holds two files of
# equal content, so a mixture of two writers would show.
HAMMER = textwrap.dedent(
    """
    import sys, time
    from pathlib import Path
    from tilec.runtime.cache import Cache
    cache, key, name, seconds = Cache(Path(sys.argv[1])), sys.argv[2], sys.argv[3], float(sys.argv[4])
    data = name.encode() * 20_000
    end = time.monotonic() + seconds
    print("ready", flush=True)
    while time.monotonic() < end:
        cache.put(key, {"x": data, "y": data})
        files = cache.get(key)
        assert files is None or (files["x"] == files["y"] and len(set(files["x"])) == 1), "mixed entry"
        if int(name) % 2 == 0:
            cache.clear()
    """
)


def hammer(root: Path, name: str, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HAMMER, str(root), KEY, name, str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def leftovers(root: Path) -> list[Path]:
    return list((root / cache_module.FORMAT / "tmp").iterdir())


def test_a_put_is_read_back_and_nothing_else(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    assert cache.get(KEY) is None
    cache.put(KEY, FILES)
    assert cache.get(KEY) == FILES
    assert cache.get(key_of({"what": "other"})) is None
    assert leftovers(tmp_path) == []
    assert cache.usage().entries == 1
    assert cache.clear().entries == 1
    assert cache.get(KEY) is None


def test_keys_depend_on_every_part_and_not_on_order() -> None:
    assert key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1})
    assert len({key_of({"a": 1}), key_of({"a": "1"}), key_of({"a": 2}), key_of({"b": 1})}) == 4


def test_a_changed_source_file_changes_the_digest(tmp_path: Path) -> None:
    (tmp_path / "emit.py").write_text("x = 1\n")
    before = source_digest([tmp_path])
    assert before == source_digest([tmp_path])
    (tmp_path / "emit.py").write_text("x = 2\n")
    assert source_digest([tmp_path]) != before


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "manifest", "other"])
def test_a_damaged_entry_is_a_miss_and_disappears(tmp_path: Path, damage: str) -> None:
    cache = Cache(tmp_path)
    cache.put(KEY, FILES)
    (victim,) = tmp_path.rglob("a.ptx")
    if damage == "flip":
        data = bytearray(victim.read_bytes())
        data[7] ^= 1
        victim.write_bytes(data)
    elif damage == "truncate":
        victim.write_bytes(victim.read_bytes()[:-1])
    elif damage == "remove":
        victim.unlink()
    elif damage == "manifest":
        (victim.parent / "manifest.json").write_text("[1, 2")
    else:
        manifest = victim.parent / "manifest.json"
        manifest.write_text(manifest.read_text().replace(KEY, "0" * 64))
    assert cache.get(KEY) is None
    assert not victim.parent.exists()
    cache.put(KEY, FILES)
    assert cache.get(KEY) == FILES


def test_concurrent_processes_never_mix_entries(tmp_path: Path) -> None:
    workers = [hammer(tmp_path, str(i), 1.5) for i in range(4)]
    for worker in workers:
        _, errors = worker.communicate(timeout=60)
        assert worker.returncode == 0, errors
    assert leftovers(tmp_path) == []


def test_kill_9_in_the_middle_of_writes_leaves_no_half_entry(tmp_path: Path) -> None:
    rng = random.Random(7)
    cache = Cache(tmp_path)
    for i in range(6):
        worker = hammer(tmp_path, str(1 + 2 * (i % 4)), 30)
        assert worker.stdout is not None
        worker.stdout.readline()
        time.sleep(rng.uniform(0.0, 0.05))
        worker.send_signal(signal.SIGKILL)
        worker.communicate()
        files = cache.get(KEY)
        assert files is None or (files["x"] == files["y"] and len(files["x"]) == 20_000)
        cache.clear()


def test_left_overs_are_swept_by_age(tmp_path: Path) -> None:
    cache = Cache(tmp_path, sweep_every=1)
    cache.put(KEY, FILES)
    temporary = tmp_path / cache_module.FORMAT / "tmp"
    for name, age in (("old", 2 * cache_module.STALE), ("young", 0.0)):
        (temporary / name).mkdir()
        (temporary / name / "half").write_bytes(b"1")
        os.utime(temporary / name, (time.time() - age,) * 2)
    cache.put(key_of({"n": 2}), FILES)
    assert [p.name for p in leftovers(tmp_path)] == ["young"]


def test_the_least_recently_used_entries_go_first(tmp_path: Path) -> None:
    cache = Cache(tmp_path, limit=25_000, sweep_every=1)
    keys = [key_of({"n": n}) for n in range(3)]
    for age, key in zip((300, 200), keys[:2], strict=True):
        cache.put(key, {"x": b"x" * 10_000})
        (entry,) = tmp_path.rglob(key)
        os.utime(entry, (time.time() - age,) * 2)
    assert cache.get(keys[0]) is not None  # now the second is the oldest
    cache.put(keys[2], {"x": b"x" * 10_000})
    assert [cache.get(k) is not None for k in keys] == [True, False, True]
    assert cache.usage().bytes <= 25_000


def test_an_unwritable_folder_warns_once_and_works(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    cache = Cache(tmp_path / "file" / "cache")
    with pytest.warns(RuntimeWarning, match="TILEC_CACHE_DIR"):
        cache.put(KEY, FILES)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache.put(KEY, FILES)
        assert cache.get(KEY) is None
        assert cache.usage().entries == 0
