"""Fixture plugin: sinks that are closed when the test that opened them has ended."""

from collections.abc import Iterator
from typing import TypeVar

import pytest

from cdckit.sink import Sink

Opened = TypeVar("Opened", bound=Sink)
_opened: list[Sink] = []


def closed_at_end(sink: Opened) -> Opened:
    """Close this sink at the end of the test, which may have closed it before."""
    _opened.append(sink)
    return sink


@pytest.fixture(autouse=True)
def close_sinks() -> Iterator[None]:
    """Close what the test opened, the last one first."""
    yield
    while _opened:
        _opened.pop().close()
