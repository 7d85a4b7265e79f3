"""What one look found; frozen. A part that could not be asked carries `error` instead of figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a part could not be asked, and what mends it."""

    message: str
    hint: str


@dataclass(frozen=True, slots=True)
class SlotState:
    """The replication slot, by plain SQL. `behind` is WAL in bytes that the stream has not accepted yet."""

    name: str
    database: str
    reader: int | None
    """The PostgreSQL process that serves the producer, None when nobody reads."""
    idle_seconds: float | None
    """Since when nobody reads, where PostgreSQL tells (17 and newer)."""
    confirmed: int
    wal_end: int
    retained: int
    share: float
    """Of the smaller of the limits on WAL, 0 without one."""
    level: str
    text: str
    hint: str

    @property
    def behind(self) -> int:
        """Bytes of WAL between what is acknowledged and the WAL's end."""
        return max(0, self.wal_end - self.confirmed)


@dataclass(frozen=True, slots=True)
class ProducerState:
    """The producer's own figures, from its metrics endpoint. Counters start anew with its process."""

    changes: float
    refused: float
    failed_requests: float
    pending: float
    lag_seconds: float


@dataclass(frozen=True, slots=True)
class StreamState:
    """The stream: open and closed shards, hours of retention, and which server's positions it carries."""

    name: str
    status: str
    mode: str
    open_shards: int
    closed_shards: int
    retention_hours: int
    epoch: int | None
    system: str | None


@dataclass(frozen=True, slots=True)
class ShardState:
    """One shard of one consumer. Times are in seconds; None is unknown.

    `lag` is the age of the oldest change that the checkpoint does not cover, by commit time, 0 when there is none.
    `pending` counts those changes (`exact`, or an estimate by the density of what was read). `until_loss` is how long
    the stream still keeps the oldest of them.
    """

    shard: str
    owner: str | None
    alive: bool
    ended: bool
    checkpoint: str
    position: str
    lag: float | None
    pending: int | None
    exact: bool
    until_loss: float | None


@dataclass(frozen=True, slots=True)
class ConsumerState:
    """One KCL application. `stopped`, `applied` and the latencies are known on the machine that runs it.

    `stopped` says why it gave up for good; the latencies are from commit to durable, since the processes started.
    """

    name: str
    application: str
    shards: Sequence[ShardState]
    dead_letters: int | None
    stopped: str = ""
    applied: int | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    error: Failure | None = None

    @property
    def lag(self) -> float | None:
        """The worst shard's; None when one is unknown."""
        lags = [shard.lag for shard in self.shards if not shard.ended]
        return None if None in lags else max((lag for lag in lags if lag is not None), default=0.0)

    @property
    def alive(self) -> bool:
        """Whether a worker renews each lease that still has something to read."""
        return all(shard.alive for shard in self.shards if not shard.ended)


@dataclass(frozen=True, slots=True)
class Health:
    """One look at everything; `at` in Unix seconds."""

    at: float
    source: str
    slot: SlotState | Failure
    producer: ProducerState | None
    stream: StreamState | Failure
    consumers: Sequence[ConsumerState] = field(default_factory=tuple)
