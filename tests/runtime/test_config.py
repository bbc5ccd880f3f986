"""The table of environment variables."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from tilec.ir.errors import TilecValueError
from tilec.runtime.config import VARIABLES, Config, config


def test_every_field_has_one_variable() -> None:
    assert sorted(v.field for v in VARIABLES.values()) == sorted(f.name for f in fields(Config))


def test_values_are_parsed_and_empty_means_unset() -> None:
    found = config(
        {"TILEC_CACHE_DIR": "/c", "TILEC_NUM_THREADS": "3", "TILEC_CACHE": "0", "TILEC_BACKEND": ""}
    )
    assert (found.cache_dir, found.num_threads, found.cache, found.backend) == (Path("/c"), 3, False, None)


@pytest.mark.parametrize(
    ("name", "text"), [("TILEC_NUM_THREADS", "0"), ("TILEC_NUM_THREADS", "many"), ("TILEC_CACHE", "yes"),
                       ("TILEC_BACKEND", "gpu")],
)  # fmt: skip
def test_an_illegal_value_is_an_error_that_names_it(name: str, text: str) -> None:
    with pytest.raises(TilecValueError, match=name):
        config({name: text})
