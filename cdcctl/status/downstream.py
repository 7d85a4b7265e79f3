"""Queries each consumer: its leases, its progress on the stream, its dead letters and its reports on this machine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cdcctl.status.model import ConsumerState, Failure, ShardState
from cdcctl.status.shard_progress import measure_progress
from cdckit.errors import CdcError
from cdckit.runtime.settings import Settings
from consumers.dead_letters import open_store
from consumers.kcl.leases import Lease, LeaseTable
from consumers.worker.registry import consumer_names
from consumers.worker.status import merged_latencies, quantile, read_reports

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_kinesis import KinesisClient

Leases = Mapping[str, Mapping[str, Lease]]
"""Leases by consumer and shard."""


@dataclass(frozen=True, slots=True)
class ConsumerInspector:
    """Queries the state of consumers. `retention` is the stream's retention, None when it is unknown."""

    settings: Settings
    kinesis: KinesisClient
    dynamodb: DynamoDBClient
    retention: timedelta | None

    def leases(self, names: Iterable[str]) -> tuple[Leases, Mapping[str, Failure]]:
        """The leases of all consumers that have ever run, and the failures of those that could not be queried."""
        found: dict[str, Mapping[str, Lease]] = {}
        failed: dict[str, Failure] = {}
        for name in names:
            try:
                leases = LeaseTable(self.settings.application(name), self.dynamodb).read()
            except CdcError as error:
                failed[name] = Failure(error.message, error.hint)
            else:
                if leases is not None:
                    found[name] = leases
        return found, failed

    def consumer(self, name: str, before: Mapping[str, Lease], now: Mapping[str, Lease]) -> ConsumerState:
        """The state of one consumer. A lease is alive when its counter changed between the reads `before` and `now`."""
        reports = read_reports(self.settings.folder, name)
        latencies = merged_latencies(reports)
        shards, error = self._shards(before, now)
        return ConsumerState(
            name, self.settings.application(name), shards, self._count_dead_letters(name),
            next((report.stopped for report in reports if report.stopped), ""),
            sum(report.applied for report in reports) if reports else None,
            quantile(latencies, 0.5), quantile(latencies, 0.99), error,
        )  # fmt: skip

    def _shards(
        self, before: Mapping[str, Lease], now: Mapping[str, Lease]
    ) -> tuple[Sequence[ShardState], Failure | None]:
        try:
            return [self._shard(before.get(name), lease) for name, lease in sorted(now.items())], None
        except CdcError as error:
            return (), Failure(error.message, error.hint)

    def _shard(self, before: Lease | None, lease: Lease) -> ShardState:
        clock = datetime.now(UTC)
        progress = measure_progress(self.kinesis, self.settings.stream, lease, clock)
        until_loss = None
        if progress.oldest is not None and self.retention is not None:
            until_loss = max(0.0, (progress.oldest + self.retention - clock).total_seconds())
        return ShardState(
            lease.shard, lease.owner, before is not None and before.counter != lease.counter,
            lease.checkpoint == "SHARD_END", lease.checkpoint, progress.position, progress.lag, progress.pending,
            progress.exact, until_loss,
        )  # fmt: skip

    def _count_dead_letters(self, name: str) -> int | None:
        try:
            return open_store(self.settings.dead_letters, name, self.settings.folder).count()
        except CdcError:
            return None  # `cdcctl dlq ls` reports the cause


def known_consumers(settings: Settings) -> list[str]:
    """The installed consumers, and custom ones that have run on this machine."""
    reports = settings.folder / "status"
    ran = [path.name for path in reports.iterdir() if path.is_dir()] if reports.is_dir() else []
    return list(dict.fromkeys([*consumer_names(), *sorted(ran)]))
