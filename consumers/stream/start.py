"""Where reading starts: at the oldest record, at new records only, or at an arrival time; does no I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from consumers.stream.shards import Shard, is_open, parents

_SLACK = timedelta(seconds=60)  # between this clock and Kinesis'


@dataclass(frozen=True, slots=True)
class StartPosition:
    """A kind of Kinesis iterator (TRIM_HORIZON, LATEST, AT_TIMESTAMP) and, for AT_TIMESTAMP, the arrival time.

    A seeded lease holds the same `kind`; the KCL takes the time from its properties.
    """

    kind: str
    moment: datetime | None = None

    @classmethod
    def at(cls, moment: datetime) -> StartPosition:
        """Starts at the first record that arrived at `moment` or later."""
        return cls("AT_TIMESTAMP", moment)

    @classmethod
    def a_little_before_now(cls) -> StartPosition:
        """Starts now, minus the tolerated difference between this clock and the clock of Kinesis."""
        return cls.at(datetime.now(UTC) - _SLACK)

    @property
    def properties(self) -> Mapping[str, str]:
        """The KCL's properties for it."""
        if self.moment is not None:
            return {"initialPositionInStreamExtended": str(int(self.moment.timestamp()))}
        return {"initialPositionInStream": self.kind}

    @property
    def iterator(self) -> dict[str, Any]:
        """GetShardIterator's arguments for it."""
        timestamp = {} if self.moment is None else {"Timestamp": self.moment}
        return {"ShardIteratorType": self.kind, **timestamp}

    def seeds(self, shards: Sequence[Shard]) -> list[str]:
        """The shards that get the first leases: the KCL makes the leases of children when their parents end.

        For LATEST these are the open shards, otherwise the oldest shards that the stream still lists.
        """
        if self.kind == "LATEST":
            return [shard["ShardId"] for shard in shards if is_open(shard)]
        known = {shard["ShardId"] for shard in shards}
        return [shard["ShardId"] for shard in shards if not known.intersection(parents(shard))]


EARLIEST = StartPosition("TRIM_HORIZON")
LATEST = StartPosition("LATEST")
