"""Assembles and runs a producer from the settings: checks first, then the relay, again when PostgreSQL comes back."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from cdckit.errors import EpochChanged, SlotLost, SourceError, StreamError
from cdckit.settings import Settings, yes
from producer.aggregate import AggregateLanes
from producer.guard import SlotGuard, parse_size
from producer.kinesis import Publisher, Target
from producer.metrics import Meter, serving
from producer.plain import PlainLanes
from producer.prepare import prepare
from producer.relay import DRAIN_SECONDS, Relay
from producer.routing import Origin, Router, TableFilter
from producer.slot import SlotReader
from producer.stream import Stream, kinesis_client

logger = logging.getLogger(__name__)

_RETRY_MOST = 15.0
_MARK_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Result:
    """What one run did: changes and records that the stream accepted, and how often it refused one."""

    changes: int
    records: int
    refused: int


def run(
    settings: Settings, stopping: Callable[[], bool], *, new_epoch: bool = False, drain_seconds: float = DRAIN_SECONDS
) -> Result:
    """Relay changes until `stopping`. The first start must succeed; later failures of PostgreSQL are waited out.

    Raises SourceError (also SlotInUse, SlotLost, EpochChanged), StreamError (also RecordTooLarge) and UsageError with
    what mends them. What the stream had not accepted is then not acknowledged, and comes again at the next start.
    """
    budget = parse_size(settings.max_retained_wal)
    stream = Stream(kinesis_client(), settings.stream)
    target = stream.target()
    origin = prepare(settings, stream, new_epoch=new_epoch)
    meter = Meter(settings.source)
    mark = _Mark(stream, origin, meter)
    parts = _Parts(settings, target, meter, drain_seconds)
    with ExitStack() as open_parts:
        open_parts.callback(target.close)
        open_parts.enter_context(serving(meter, settings.metrics_port))
        reader = SlotReader(settings.dsn, settings.slot)
        meter.guard = open_parts.enter_context(SlotGuard(settings.dsn, settings.slot, budget, mark.now_and_then))
        open_parts.callback(mark.now)
        while True:
            _relay(parts, origin, reader, stopping)
            if stopping():
                break
            again = _reconnect(settings, stream, stopping)
            if again is None:
                break
            origin, reader = again
            mark.origin = origin
    figures = meter.figures
    return Result(figures.accepted, figures.accepted_records, figures.refused)


@dataclass(frozen=True, slots=True)
class _Parts:
    """What stays the same when the connection to PostgreSQL is made anew."""

    settings: Settings
    target: Target
    meter: Meter
    drain_seconds: float


class _Mark:
    """Keeps on the stream how far it was acknowledged, so that a server whose LSNs went backwards is known."""

    def __init__(self, stream: Stream, origin: Origin, meter: Meter) -> None:
        self._stream, self.origin, self._meter = stream, origin, meter
        self._at, self._written = time.monotonic(), 0

    def now_and_then(self) -> None:
        if time.monotonic() - self._at >= _MARK_SECONDS:
            self.now()

    def now(self) -> None:
        self._at = time.monotonic()
        if self._meter.acknowledged <= self._written:
            return
        try:
            self._stream.record(self.origin, self._meter.acknowledged)
            self._written = self._meter.acknowledged
        except StreamError as error:
            logger.warning("%s", error.message)


def _reconnect(settings: Settings, stream: Stream, stopping: Callable[[], bool]) -> tuple[Origin, SlotReader] | None:
    """Wait for the server to come back, and check that it is still the same; None when told to stop."""
    delay = 0.5
    while not stopping():
        try:
            return prepare(settings, stream), SlotReader(settings.dsn, settings.slot)
        except (SlotLost, EpochChanged):
            raise
        except (SourceError, StreamError) as error:
            logger.warning("%s; next try in %.1f s", error.message, delay)
        _sleep(delay, stopping)
        delay = min(delay * 2, _RETRY_MOST)
    return None


def _sleep(seconds: float, stopping: Callable[[], bool]) -> None:
    deadline = time.monotonic() + seconds
    while not stopping() and time.monotonic() < deadline:
        time.sleep(0.1)


def _relay(parts: _Parts, origin: Origin, reader: SlotReader, stopping: Callable[[], bool]) -> None:
    """One connection's worth of relaying."""
    settings, aggregate = parts.settings, yes(parts.settings.aggregate)
    publisher = Publisher(parts.target, AggregateLanes if aggregate else PlainLanes)
    parts.meter.follow(publisher)
    tables = TableFilter.parse(settings.table, settings.exclude_table)
    prefixes = [prefix.strip() for prefix in settings.message_prefixes.split(",") if prefix.strip()]
    relay = Relay(reader, Router(origin, tables, prefixes), publisher, parts.meter.on_acknowledged)
    logger.info(
        "relaying slot %r of source %r (epoch %d) to stream %r%s",
        settings.slot, origin.source, origin.epoch, settings.stream, ", aggregated" if aggregate else "",
    )  # fmt: skip
    try:
        relay.run(stopping, parts.drain_seconds)
    except SourceError as error:
        logger.warning("%s; reconnecting", error.message)
    finally:
        reader.close()
        publisher.close()
