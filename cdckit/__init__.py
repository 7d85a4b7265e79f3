"""The types and formats that producer, consumers and third-party sinks share; no I/O.

Import from the modules (``cdckit.change``, ``cdckit.position``, ``cdckit.sink``, ``cdckit.errors``,
``cdckit.testing``); this package re-exports what a sink's author needs.
"""

from cdckit.change import Change, Op, Table
from cdckit.position import Lsn, Position
from cdckit.sink import Batch, Outcome, Received, Sink, SinkContext, SinkFactory

__all__ = [
    "Batch",
    "Change",
    "Lsn",
    "Op",
    "Outcome",
    "Position",
    "Received",
    "Sink",
    "SinkContext",
    "SinkFactory",
    "Table",
]
