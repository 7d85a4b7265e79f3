"""The producer's metrics for Prometheus, computed when they are scraped: the hot path counts in plain integers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import fields
from datetime import datetime

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from cdckit.position import Lsn
from producer.kinesis.publisher import PublishCounts, Publisher
from producer.postgres.slot_monitor import SlotMonitor

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)


class ProducerMetrics(Collector):
    """Metrics of a whole run: the counts of the current publisher, and of all before it."""

    def __init__(self, source: str) -> None:
        """`source` labels every metric."""
        self._source = source
        self._before = PublishCounts()
        self._publisher: Publisher | None = None
        self.slot_monitor: SlotMonitor | None = None
        self.acknowledged = Lsn(0)
        self.newest_commit = ""
        """When the newest acknowledged transaction was committed; empty before the first."""
        self.last_report = time.monotonic()
        """When the relay last reported to the slot: about once a second while it is connected."""
        self.registry = CollectorRegistry()
        self._latency = Histogram(
            "cdc_commit_to_ack_seconds", "From commit to acknowledgement, one sample per acknowledgement", ["source"],
            registry=self.registry, buckets=_BUCKETS,
        ).labels(source)  # fmt: skip
        self.registry.register(self)

    def follow(self, publisher: Publisher) -> None:
        """Count a new publisher from now on; the last one's counts are kept."""
        self._before, self._publisher = self.counts, publisher

    @property
    def counts(self) -> PublishCounts:
        """The whole run's counts so far."""
        if self._publisher is None:
            return self._before
        now = self._publisher.counts
        names = [field.name for field in fields(PublishCounts)]
        return PublishCounts(**{name: getattr(self._before, name) + getattr(now, name) for name in names})

    @property
    def pending(self) -> int:
        """Changes that were read and that the stream has not accepted yet."""
        return self._publisher.pending if self._publisher else 0

    def on_acknowledged(self, flushed: Lsn, commit_time: str) -> None:
        """Record that the relay acknowledged up to `flushed`; the newest commit in it has this time."""
        self.last_report = time.monotonic()
        if flushed <= self.acknowledged:
            return
        self.acknowledged = flushed
        if commit_time:
            self.newest_commit = commit_time
            self._latency.observe(_age(commit_time))

    def collect(self) -> Iterator[Metric]:
        """Yield what Prometheus scrapes."""
        counts, publisher = self.counts, self._publisher
        yield self._counter("changes", "Changes that the stream accepted", counts.accepted)
        yield self._counter("records", "Kinesis records that the stream accepted", counts.accepted_records)
        yield self._counter("bytes", "Bytes that the stream accepted", counts.accepted_bytes)
        yield self._counter("put_requests", "PutRecords requests sent", counts.requests)
        yield self._counter("compressed", "Changes compressed to fit into a record", counts.compressed)
        yield self._counter("oversized", "Changes stored beside the stream, which has a reference", counts.oversized)
        retries = CounterMetricFamily(
            "cdc_retries", "Records and requests sent again, by reason", labels=["source", "why"]
        )
        for why, count in (
            ("refused", counts.refused), ("failed", counts.failed_requests), ("strayed", counts.misrouted),
        ):  # fmt: skip
            retries.add_metric([self._source, why], count)
        yield retries
        yield self._gauge(
            "requests_in_flight", "PutRecords requests in flight", publisher.in_flight if publisher else 0
        )
        yield self._gauge("pending_changes", "Read and not yet accepted", self.pending)
        yield self._gauge("pending_bytes", "Their bytes", publisher.pending_bytes if publisher else 0)
        lag = _age(self.newest_commit) if self.pending and self.newest_commit else 0.0
        yield self._gauge("lag_seconds", "Age of the last acknowledged commit while changes wait, else 0", lag)
        yield self._gauge("acknowledged_lsn", "Position acknowledged to the slot, in bytes", int(self.acknowledged))
        yield from self._slot()

    def _slot(self) -> Iterator[Metric]:
        state, status = (self.slot_monitor.state, self.slot_monitor.status) if self.slot_monitor else (None, None)
        if state is None or status is None:
            return
        yield self._gauge("slot_retained_bytes", "WAL that the slot keeps from removal", state.retained)
        yield self._gauge("slot_budget_share", "Share of the smaller of the WAL limits, 0 without one", status.share)
        wal_status = GaugeMetricFamily(
            "cdc_slot_wal_status", "1 for the slot's wal_status", labels=["source", "status"]
        )
        for name in ("reserved", "extended", "unreserved", "lost"):
            wal_status.add_metric([self._source, name], float(state.wal_status == name))
        yield wal_status

    def _counter(self, name: str, text: str, value: float) -> Metric:
        family = CounterMetricFamily(f"cdc_{name}", text, labels=["source"])
        family.add_metric([self._source], value)
        return family

    def _gauge(self, name: str, text: str, value: float) -> Metric:
        family = GaugeMetricFamily(f"cdc_{name}", text, labels=["source"])
        family.add_metric([self._source], value)
        return family


def _age(commit_time: str) -> float:
    return max(0.0, time.time() - datetime.fromisoformat(commit_time).timestamp())
