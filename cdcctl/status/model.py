"""The state of the pipeline at one time, as frozen dataclasses. A part that cannot be queried is a `Failure`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a part could not be queried, and how to fix it."""

    message: str
    hint: str


@dataclass(frozen=True, slots=True)
class SlotState:
    """The replication slot, from SQL. `behind` is the WAL in bytes that the stream has not accepted yet."""

    name: str
    database: str
    reader: int | None
    """The PostgreSQL process that serves the producer; None when no process reads the slot."""
    idle_seconds: float | None
    """Seconds since the last reader disconnected; None before PostgreSQL 17, which does not record it."""
    confirmed: int
    wal_end: int
    retained: int
    share: float
    """Retained WAL as a share of the smallest limit on WAL; 0 without a limit."""
    level: str
    text: str
    hint: str

    @property
    def behind(self) -> int:
        """Bytes of WAL between the acknowledged position and the end of the WAL."""
        return max(0, self.wal_end - self.confirmed)


@dataclass(frozen=True, slots=True)
class ProducerState:
    """The producer's metrics, from its endpoint. Counters restart with the process."""

    changes: float
    refused: float
    failed_requests: float
    pending: float
    lag_seconds: float


@dataclass(frozen=True, slots=True)
class StreamState:
    """The stream: its shards and retention, and the epoch and system identifier of the source that it follows."""

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
    """One shard of one consumer. Times are in seconds; None means unknown.

    `lag` is the age, by commit time, of the oldest change that the checkpoint does not cover; 0 when there is none.
    `pending` is the number of those changes, `exact` or estimated. `until_loss` is the time until the oldest of them
    expires on the stream.
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
    """One KCL application. `stopped`, `applied` and the latencies are only known on the machine that runs it.

    `stopped` is why it stopped permanently. Latencies are from commit to durable, since the processes started.
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
        """The greatest lag of the shards; None when one is unknown."""
        lags = [shard.lag for shard in self.shards if not shard.ended]
        return None if None in lags else max((lag for lag in lags if lag is not None), default=0.0)

    @property
    def alive(self) -> bool:
        """Whether a worker renews every lease that is not finished."""
        return all(shard.alive for shard in self.shards if not shard.ended)


@dataclass(frozen=True, slots=True)
class Health:
    """The state of all parts; `at` in Unix seconds."""

    at: float
    source: str
    slot: SlotState | Failure
    producer: ProducerState | None
    stream: StreamState | Failure
    consumers: Sequence[ConsumerState] = field(default_factory=tuple)
