"""Finds sink factories by name: the entry points ``cdckit.sinks`` (the shipped satellites), or ``module:name``."""

from __future__ import annotations

from importlib.metadata import entry_points

from cdckit.errors import ConsumerError
from cdckit.runtime.extras import extra_needed
from cdckit.runtime.user_code import load_object
from cdckit.sink import SinkFactory

GROUP = "cdckit.sinks"


def consumer_names() -> list[str]:
    """The names that `find_factory` knows."""
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
        f"unknown consumer {name!r}", f"known: {', '.join(consumer_names())}; for your own sink: --sink module:name"
    )


def _load(path: str) -> SinkFactory:
    try:
        factory: SinkFactory = load_object(path)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConsumerError(
            f"cannot load the sink {path!r}: {error}", "use module:name, importable from here"
        ) from error
    return factory
