"""Builds and runs a producer from the settings: checks, then the relay, which reconnects when PostgreSQL returns."""

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
from cdckit.runtime.settings import Settings, is_yes
from cdckit.runtime.signals import sleep_until_stopped
from producer.decoding.router import Router
from producer.epoch import write_state
from producer.kinesis.batching.aggregated import AggregatedBatcher
from producer.kinesis.batching.per_key import PerKeyBatcher
from producer.kinesis.claim_check import open_claim_check
from producer.kinesis.publisher import Publisher
from producer.kinesis.stream import Stream, kinesis_client
from producer.kinesis.target import Target, open_target
from producer.masking.mask_key import open_masker
from producer.masking.masker import Masker
from producer.monitoring.health import serve_endpoint
from producer.monitoring.metrics import ProducerMetrics
from producer.postgres.connection import Source
from producer.postgres.credentials import SourceDsn
from producer.postgres.replication_slot import SLOT_WAIT_SECONDS, SlotReader
from producer.postgres.server import wal_end
from producer.postgres.slot_monitor import SlotMonitor, parse_size
from producer.preflight import prepare
from producer.records import Origin
from producer.relay import DRAIN_SECONDS, Relay
from producer.schema.refill import Refiller
from producer.schema.watcher import SchemaWatcher
from producer.snapshot.coordinator import Endpoints
from producer.snapshot.initial import InitialSnapshot

logger = logging.getLogger(__name__)

_MAX_RETRY_SECONDS = 15.0
_RECORD_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Result:
    """What one run did: changes and records that the stream accepted, and how often it refused one.

    `acknowledged` is the position up to which the slot was acknowledged (``0/0``: not at all), `newest_commit` the
    commit time of the newest transaction in it (empty without one).
    """

    changes: int
    records: int
    refused: int
    acknowledged: str
    newest_commit: str


@dataclass(frozen=True, slots=True)
class RunLimits:
    """Time limits of a run, in seconds: to drain at its end, without changes, and for a slot that is in use.

    A run that has caught up and received no change for `idle_seconds` ends.
    """

    drain_seconds: float = DRAIN_SECONDS
    idle_seconds: float = math.inf
    slot_wait_seconds: float = SLOT_WAIT_SECONDS


def run(
    settings: Settings,
    stopping: Callable[[], bool],
    *,
    new_epoch: bool = False,
    snapshot: bool = False,
    limits: RunLimits | None = None,
) -> Result:
    """Relay changes until `stopping`. The first start must succeed; after later failures of PostgreSQL, reconnect.

    With `snapshot`, a slot that this run creates is preceded by the existing rows; see `producer.snapshot.initial`.

    Raises SourceError (also SlotInUse, SlotLost, EpochChanged), StreamError (also RecordTooLarge) and UsageError, with
    what fixes them. What the stream had not accepted is then not acknowledged, and comes again at the next start.
    """
    limits = limits or RunLimits()
    budget = parse_size(settings.max_retained_wal)
    stream = Stream(kinesis_client(), settings.stream)
    target = open_target(stream, open_claim_check(settings.oversize, settings.source))
    dsn, masker = SourceDsn(settings), open_masker(settings)
    initial = InitialSnapshot(settings, dsn, stream, requested=snapshot)
    origin = prepare(replace(settings, dsn=dsn()), stream, masker, new_epoch=new_epoch, first_run=initial)
    metrics = ProducerMetrics(settings.source)
    recorder = _PositionRecorder(stream, origin, metrics)
    components = _Components(settings, dsn, target, masker, metrics, limits)
    with ExitStack() as stack:
        stack.callback(target.close)
        stack.enter_context(serve_endpoint(metrics, settings.metrics_port))
        if initial.due(origin) and not _run_snapshot(
            initial, Endpoints(settings, dsn, origin, masker, target), stack, stopping
        ):
            return Result(0, 0, 0, str(metrics.acknowledged), "")
        # a run that ends when it is idle (Lambda) is too short to fill tables: the command is logged instead
        refill = Refiller(settings) if math.isinf(limits.idle_seconds) else None
        watcher = stack.enter_context(SchemaWatcher(settings, dsn, refill))
        reader = SlotReader(dsn(), settings.slot, limits.slot_wait_seconds)
        metrics.slot_monitor = stack.enter_context(SlotMonitor(dsn, settings.slot, budget, recorder.record_if_due))
        stack.callback(recorder.record)
        idle_stop = _IdleStop(stopping, metrics, components)
        while True:
            _relay(components, origin, reader, watcher, idle_stop)
            if idle_stop():
                break
            reconnected = _reconnect(components, stream, idle_stop)
            if reconnected is None:
                break
            origin, reader = reconnected
            recorder.origin = origin
    counts = metrics.counts
    return Result(
        counts.accepted, counts.accepted_records, counts.refused, str(metrics.acknowledged), metrics.newest_commit
    )


@dataclass(frozen=True, slots=True)
class _Components:
    """What does not change when the connection to PostgreSQL is opened again."""

    settings: Settings
    dsn: Callable[[], str]
    target: Target
    masker: Masker
    metrics: ProducerMetrics
    limits: RunLimits


def _run_snapshot(
    initial: InitialSnapshot, endpoints: Endpoints, stack: ExitStack, stopping: Callable[[], bool]
) -> bool:
    """Run the snapshot: before the stream if the slot starts with it, else in the background. False when stopped."""
    if initial.from_slot_start:
        return initial.run(endpoints, stopping)
    ended = threading.Event()
    thread = initial.run_in_background(endpoints, lambda: ended.is_set() or stopping())
    stack.callback(thread.join)
    stack.callback(ended.set)
    return True


class _IdleStop:
    """True once a stop was requested, or once the run is idle for `idle_seconds`.

    A run is idle only after it acknowledged everything that was committed at its start: before that, silence means that
    the server is decoding a large transaction, of which it sends nothing until then.
    """

    def __init__(self, stopping: Callable[[], bool], metrics: ProducerMetrics, components: _Components) -> None:
        self._stopping, self._metrics, self._idle_seconds = stopping, metrics, components.limits.idle_seconds
        self._accepted, self._idle_since, self._next_check = -1, time.monotonic(), 0.0
        self._idle, self._backlog_end = False, Lsn(0)
        if self._idle_seconds < math.inf:
            with closing(Source(components.dsn())) as source:
                self._backlog_end = wal_end(source)

    def __call__(self) -> bool:
        return self._idle or self._stopping() or self._is_idle()

    def _is_idle(self) -> bool:
        now = time.monotonic()
        if self._idle_seconds == math.inf or now < self._next_check:
            return False
        self._next_check = now + 0.1  # summing the counts up is too slow for every pass of the hot loop
        accepted = self._metrics.counts.accepted
        if accepted != self._accepted or self._metrics.pending:
            self._accepted, self._idle_since = accepted, now
        self._idle = self._metrics.acknowledged >= self._backlog_end and now - self._idle_since >= self._idle_seconds
        return self._idle


class _PositionRecorder:
    """Records on the stream how far it is acknowledged, so that a server whose LSNs went backwards is detected."""

    def __init__(self, stream: Stream, origin: Origin, metrics: ProducerMetrics) -> None:
        self._stream, self.origin, self._metrics = stream, origin, metrics
        self._recorded_at, self._recorded = time.monotonic(), 0

    def record_if_due(self) -> None:
        if time.monotonic() - self._recorded_at >= _RECORD_SECONDS:
            self.record()

    def record(self) -> None:
        self._recorded_at = time.monotonic()
        if self._metrics.acknowledged <= self._recorded:
            return
        try:
            write_state(self._stream, self.origin, self._metrics.acknowledged)
            self._recorded = self._metrics.acknowledged
        except StreamError as error:
            logger.warning("%s", error.message)


def _reconnect(
    components: _Components, stream: Stream, stopping: Callable[[], bool]
) -> tuple[Origin, SlotReader] | None:
    """Wait for the server to return, and check that it is the same one; None when a stop was requested."""
    delay = 0.5
    while not stopping():
        try:
            settings = replace(components.settings, dsn=components.dsn())
            return prepare(settings, stream, components.masker), SlotReader(settings.dsn, settings.slot)
        except (SlotLost, EpochChanged):
            raise
        except (SourceError, StreamError) as error:
            logger.warning("%s; next try in %.1f s", error.message, delay)
        sleep_until_stopped(delay, stopping)
        delay = min(delay * 2, _MAX_RETRY_SECONDS)
    return None


def _relay(
    components: _Components, origin: Origin, reader: SlotReader, watcher: SchemaWatcher, stopping: Callable[[], bool]
) -> None:
    """Relay over one connection."""
    settings, aggregate = components.settings, is_yes(components.settings.aggregate)
    try:
        publisher = Publisher(
            components.target, components.target.batcher(AggregatedBatcher if aggregate else PerKeyBatcher)
        )
    except StreamError as error:  # the stream could be listed before, so this is temporary
        logger.warning("%s; reconnecting", error.message)
        reader.close()
        sleep_until_stopped(0.5, stopping)
        return
    components.metrics.follow(publisher)
    router = Router.from_settings(settings, origin, components.masker, watcher.shapes)
    relay = Relay(reader, router, publisher, components.metrics.on_acknowledged)
    logger.info(
        "relaying slot %r of source %r (epoch %d) to stream %r%s",
        settings.slot, origin.source, origin.epoch, settings.stream, ", aggregated" if aggregate else "",
    )  # fmt: skip
    try:
        relay.run(stopping, components.limits.drain_seconds)
    except SourceError as error:
        logger.warning("%s; reconnecting", error.message)
    finally:
        reader.close()
        publisher.close()
