"""Assembles and runs a producer from the settings: checks first, then the relay, again when PostgreSQL comes back."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace

from cdckit.errors import EpochChanged, SlotLost, SourceError, StreamError
from cdckit.position import Lsn
from cdckit.runtime.settings import Settings, yes
from producer.decoding.router import Router
from producer.epoch import write_state
from producer.kinesis.batching.aggregated import AggregateLanes
from producer.kinesis.batching.per_key import PlainLanes
from producer.kinesis.claim_check import open_oversize
from producer.kinesis.publisher import Publisher, Target, open_target
from producer.kinesis.stream import Stream, kinesis_client
from producer.masking.key import open_masks
from producer.masking.masker import Masks
from producer.monitoring.health import serving
from producer.monitoring.metrics import Meter
from producer.postgres.connection import Source
from producer.postgres.credentials import SourceDsn
from producer.postgres.replication_slot import BUSY_SECONDS, SlotReader
from producer.postgres.slot_monitor import SlotGuard, parse_size
from producer.preflight import prepare
from producer.records import Origin
from producer.relay import DRAIN_SECONDS, Relay
from producer.schema.refill import Refiller
from producer.schema.watcher import SchemaWatcher
from producer.snapshot.coordinator import Where
from producer.snapshot.initial import Initial

logger = logging.getLogger(__name__)

_RETRY_MOST = 15.0
_MARK_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Result:
    """What one run did: changes and records that the stream accepted, and how often it refused one.

    `acknowledged` is the position up to which the slot was acknowledged (``0/0``: not at all), `newest_commit` when the
    newest transaction in it was committed (empty: none was).
    """

    changes: int
    records: int
    refused: int
    acknowledged: str
    newest_commit: str


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a run waits, in seconds: for what is in flight at its end, for changes, for a slot that is in use.

    A run that has caught up and got no change for `idle_seconds` ends.
    """

    drain_seconds: float = DRAIN_SECONDS
    idle_seconds: float = math.inf
    busy_seconds: float = BUSY_SECONDS


def run(
    settings: Settings,
    stopping: Callable[[], bool],
    *,
    new_epoch: bool = False,
    snapshot: bool = False,
    pace: Pace | None = None,
) -> Result:
    """Relay changes until `stopping`. The first start must succeed; later failures of PostgreSQL are waited out.

    With `snapshot`, a slot that is made now is preceded by the rows that are there; see `producer.snapshot.initial`.

    Raises SourceError (also SlotInUse, SlotLost, EpochChanged), StreamError (also RecordTooLarge) and UsageError with
    what mends them. What the stream had not accepted is then not acknowledged, and comes again at the next start.
    """
    pace = pace or Pace()
    budget = parse_size(settings.max_retained_wal)
    stream = Stream(kinesis_client(), settings.stream)
    target = open_target(stream, open_oversize(settings.oversize, settings.source))
    dsn, masks = SourceDsn(settings), open_masks(settings)
    initial = Initial(settings, dsn, stream, asked=snapshot)
    origin = prepare(replace(settings, dsn=dsn()), stream, masks, new_epoch=new_epoch, make_slot=initial.make_slot)
    meter = Meter(settings.source)
    mark = _Mark(stream, origin, meter)
    parts = _Parts(settings, dsn, target, masks, meter, pace)
    with ExitStack() as open_parts:
        open_parts.callback(target.close)
        open_parts.enter_context(serving(meter, settings.metrics_port))
        if initial.due(origin) and not _past(
            initial, Where(settings, dsn, origin, masks, target), open_parts, stopping
        ):
            return Result(0, 0, 0, str(meter.acknowledged), "")
        reader = SlotReader(dsn(), settings.slot, pace.busy_seconds)
        meter.guard = open_parts.enter_context(SlotGuard(dsn, settings.slot, budget, mark.now_and_then))
        open_parts.callback(mark.now)
        watcher = open_parts.enter_context(SchemaWatcher(settings, dsn, Refiller(settings)))
        ending = _Ending(stopping, meter, parts)
        while True:
            _relay(parts, origin, reader, watcher, ending)
            if ending():
                break
            again = _reconnect(parts, stream, ending)
            if again is None:
                break
            origin, reader = again
            mark.origin = origin
    figures = meter.figures
    return Result(
        figures.accepted, figures.accepted_records, figures.refused, str(meter.acknowledged), meter.newest_commit
    )


@dataclass(frozen=True, slots=True)
class _Parts:
    """What stays the same when the connection to PostgreSQL is made anew."""

    settings: Settings
    dsn: Callable[[], str]
    target: Target
    masks: Masks
    meter: Meter
    pace: Pace


def _past(initial: Initial, where: Where, open_parts: ExitStack, stopping: Callable[[], bool]) -> bool:
    """The rows first where the slot begins with them, else beside the stream. False when told to stop meanwhile."""
    if initial.at_beginning:
        return initial.run(where, stopping)
    ended = threading.Event()
    thread = initial.beside(where, lambda: ended.is_set() or stopping())
    open_parts.callback(thread.join)
    open_parts.callback(ended.set)
    return True


class _Ending:
    """Whether to end: told so, or all that was committed at the start is done with and nothing came for a while.

    Until then nothing coming is no sign of idleness: the server decodes a large transaction before it sends a byte.
    """

    def __init__(self, stopping: Callable[[], bool], meter: Meter, parts: _Parts) -> None:
        self._stopping, self._meter, self._seconds = stopping, meter, parts.pace.idle_seconds
        self._accepted, self._since, self._look = -1, time.monotonic(), 0.0
        self._idle, self._goal = False, Lsn(0)
        if self._seconds < math.inf:
            with closing(Source(parts.dsn())) as source:
                self._goal = source.wal_end()

    def __call__(self) -> bool:
        return self._idle or self._stopping() or self._is_idle()

    def _is_idle(self) -> bool:
        now = time.monotonic()
        if self._seconds == math.inf or now < self._look:
            return False
        self._look = now + 0.1  # figures are summed up: not in each turn of the hot loop
        accepted = self._meter.figures.accepted
        if accepted != self._accepted or self._meter.waiting:
            self._accepted, self._since = accepted, now
        self._idle = self._meter.acknowledged >= self._goal and now - self._since >= self._seconds
        return self._idle


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
            write_state(self._stream, self.origin, self._meter.acknowledged)
            self._written = self._meter.acknowledged
        except StreamError as error:
            logger.warning("%s", error.message)


def _reconnect(parts: _Parts, stream: Stream, stopping: Callable[[], bool]) -> tuple[Origin, SlotReader] | None:
    """Wait for the server to come back, and check that it is still the same; None when told to stop."""
    delay = 0.5
    while not stopping():
        try:
            settings = replace(parts.settings, dsn=parts.dsn())
            return prepare(settings, stream, parts.masks), SlotReader(settings.dsn, settings.slot)
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


def _relay(
    parts: _Parts, origin: Origin, reader: SlotReader, watcher: SchemaWatcher, stopping: Callable[[], bool]
) -> None:
    """One connection's worth of relaying."""
    settings, aggregate = parts.settings, yes(parts.settings.aggregate)
    try:
        publisher = Publisher(parts.target, parts.target.lanes(AggregateLanes if aggregate else PlainLanes))
    except StreamError as error:  # it could be listed before: this passes
        logger.warning("%s; reconnecting", error.message)
        reader.close()
        _sleep(0.5, stopping)
        return
    parts.meter.follow(publisher)
    router = Router.by(settings, origin, parts.masks, watcher.shapes)
    relay = Relay(reader, router, publisher, parts.meter.on_acknowledged)
    logger.info(
        "relaying slot %r of source %r (epoch %d) to stream %r%s",
        settings.slot, origin.source, origin.epoch, settings.stream, ", aggregated" if aggregate else "",
    )  # fmt: skip
    try:
        relay.run(stopping, parts.pace.drain_seconds)
    except SourceError as error:
        logger.warning("%s; reconnecting", error.message)
    finally:
        reader.close()
        publisher.close()
