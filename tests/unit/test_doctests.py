"""The examples in the SDK's docstrings are true."""

from __future__ import annotations

import doctest
from importlib import import_module

import pytest

MODULES = (
    "aggregation", "change", "claim_check", "envelope", "packing", "position", "rows", "runtime.settings", "testing",
)  # fmt: skip


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    result = doctest.testmod(import_module(f"cdckit.{name}"))
    assert result.attempted > 0
    assert result.failed == 0
