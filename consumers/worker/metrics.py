"""Prometheus metrics of the consumers: one endpoint per launcher, from the reports that its shards' processes write."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from prometheus_client import start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from cdckit.errors import UsageError
from consumers.worker.status import BUCKETS_PER_DOUBLING, Report, read_reports

_LABELS = ("consumer", "shard")
_COUNTERS: Mapping[str, tuple[str, Callable[[Report], float]]] = {
    "records": ("records read from the shard", lambda report: report.read),
    "bytes": ("their bytes", lambda report: report.size),
    "applied": ("changes that had an effect", lambda report: report.applied),
    "superseded": (
        "changes of which the satellite already had the same or a newer version",
        lambda report: report.superseded,
    ),
    "dead_letters": ("records that can never be applied", lambda report: report.dead_lettered),
    "apply_seconds": ("time spent in the sink's apply", lambda report: report.apply_seconds),
    "flush_seconds": ("time spent in the sink's flush", lambda report: report.flush_seconds),
}
_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0)


class ReportCollector(Collector):
    """Reads the reports at each scrape; does nothing between scrapes."""

    def __init__(self, data: Path, consumers: Iterable[str], clock: Callable[[], float] = time.time) -> None:
        """`data` is the data folder."""
        self._data, self._consumers, self._clock = data, list(consumers), clock

    def collect(self) -> Iterator[Metric]:
        """All metrics. Counters start at 0 when a shard's process starts."""
        reports = [report for name in self._consumers for report in read_reports(self._data, name) if not report.ended]
        for name, (text, value) in _COUNTERS.items():
            counter = CounterMetricFamily(f"cdc_consumer_{name}", f"{text}, since the process started", labels=_LABELS)
            for report in reports:
                counter.add_metric([report.consumer, report.shard], value(report))
            yield counter
        yield self._gauge("iterator_age_seconds", "how far the shard's newest record is ahead", reports, _iterator_age)
        yield self._gauge("checkpoint_age_seconds", "since the last checkpoint", reports, self._checkpoint_age)
        yield self._gauge("report_age_seconds", "since the process last wrote its report", reports, self._report_age)
        yield self._gauge(
            "stopped", "1 when the process stopped permanently", reports, lambda report: float(bool(report.stopped))
        )
        yield _latency(reports)

    def _gauge(
        self, name: str, text: str, reports: Iterable[Report], value: Callable[[Report], float | None]
    ) -> Metric:
        gauge = GaugeMetricFamily(f"cdc_consumer_{name}", text, labels=_LABELS)
        for report in reports:
            if (current := value(report)) is not None:
                gauge.add_metric([report.consumer, report.shard], current)
        return gauge

    def _checkpoint_age(self, report: Report) -> float | None:
        return None if report.checkpointed is None else self._clock() - report.checkpointed

    def _report_age(self, report: Report) -> float:
        return self._clock() - report.updated


def serve_metrics(port: int, data: Path, consumers: Iterable[str]) -> Callable[[], None]:
    """Serve ``http://0.0.0.0:PORT/metrics`` in the background; returns a function that stops it. Raises UsageError."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(ReportCollector(data, consumers))
    try:
        server, thread = start_http_server(port, registry=registry)
    except OSError as error:
        raise UsageError(f"cannot serve metrics on port {port}: {error}", "use another --metrics-port") from error

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return stop


def _iterator_age(report: Report) -> float | None:
    return None if report.millis_behind is None else report.millis_behind / 1000


def _latency(reports: Iterable[Report]) -> Metric:
    text = "from a change's commit until it was durable in the satellite"
    family = HistogramMetricFamily("cdc_consumer_commit_to_applied_seconds", text, labels=_LABELS)
    for report in reports:
        seconds = [
            (2 ** ((bucket + 1) / BUCKETS_PER_DOUBLING) / 1000, count) for bucket, count in report.latency_ms.items()
        ]
        buckets = [(str(edge), float(sum(n for at, n in seconds if at <= edge))) for edge in _BUCKETS]
        total = float(sum(count for _, count in seconds))
        family.add_metric(
            [report.consumer, report.shard], [*buckets, ("+Inf", total)], sum(at * count for at, count in seconds)
        )
    return family
