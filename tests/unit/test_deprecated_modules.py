"""Modules of cdckit that moved still work by their old names, with a warning that names the new place."""

from __future__ import annotations

from importlib import import_module

import pytest

from cdckit.sink import max_batch_changes
from cdckit.testing import MemorySink


@pytest.mark.parametrize(
    ("old", "name", "new", "current"),
    [
        ("cdckit.settings", "resolve", "cdckit.runtime.settings", "resolve"),
        ("cdckit.settings", "masked", "cdckit.runtime.settings", "mask_password"),
        ("cdckit.logs", "configure", "cdckit.runtime.logs", "configure"),
        ("cdckit.signals", "Stopping", "cdckit.runtime.signals", "StopFlag"),
        ("cdckit.oversize", "kept_in", "cdckit.claim_check", "decode_reference"),
    ],
)
def test_an_old_name_leads_to_the_new_one(old: str, name: str, new: str, current: str) -> None:
    with pytest.warns(DeprecationWarning, match=rf"{old}\.{name} is now {new}\.{current}; removed in 0\.3"):
        found = getattr(import_module(old), name)
    assert found is getattr(import_module(new), current)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError):
        import_module("cdckit.settings").nothing  # noqa: B018


def test_the_old_attribute_of_a_sink_works_with_a_warning() -> None:
    sink = MemorySink()
    sink.most_changes = 300  # type: ignore[attr-defined]
    with pytest.warns(DeprecationWarning, match="max_changes"):
        assert max_batch_changes(sink) == 300
