"""Finds sinks by name: the entry points ``cdckit.sinks`` (the satellites that ship are some) or ``module:name``."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from importlib.metadata import entry_points

from cdckit.errors import ConsumerError
from cdckit.runtime.extras import extra_needed
from cdckit.sink import SinkFactory

GROUP = "cdckit.sinks"


def consumer_names() -> list[str]:
    """The names that `open_factory` knows."""
    return sorted({point.name for point in entry_points(group=GROUP)})


def find_factory(name: str, sink: str | None = None) -> SinkFactory:
    """The factory of the consumer `name`, or of `sink` given as ``module:name``. Raises ConsumerError."""
    if sink is not None:
        return _load(sink)
    for point in entry_points(group=GROUP, name=name):
        with extra_needed("consumers"):
            factory: SinkFactory = point.load()
        return factory
    raise ConsumerError(
        f"unknown consumer {name!r}", f"known: {', '.join(consumer_names())}; or a sink of your own: --sink module:name"
    )


def _load(path: str) -> SinkFactory:
    module, _, name = path.partition(":")
    if os.getcwd() not in sys.path:  # a console script does not look in the working folder by itself
        sys.path.insert(0, os.getcwd())
    try:
        factory: SinkFactory = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConsumerError(
            f"cannot load the sink {path!r}: {error}", "use module:name, importable from here"
        ) from error
    return factory
