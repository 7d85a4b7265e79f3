"""Where reading begins: all that the stream holds, only what comes, or what arrived at a time or later; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from consumers.shards import Shard, is_open, parents

_SLACK = timedelta(seconds=60)  # between this clock and Kinesis'


@dataclass(frozen=True, slots=True)
class Begin:
    """A kind of Kinesis iterator (TRIM_HORIZON, LATEST, AT_TIMESTAMP) and, for the last, the arrival time.

    `kind` is what a seeded lease holds, too: the KCL looks the time up in the properties.
    """

    kind: str
    moment: datetime | None = None

    @classmethod
    def at(cls, moment: datetime) -> Begin:
        """From the first record that arrived at `moment` or later."""
        return cls("AT_TIMESTAMP", moment)

    @classmethod
    def a_little_before_now(cls) -> Begin:
        """From now on, with slack for this clock being ahead of Kinesis'."""
        return cls.at(datetime.now(UTC) - _SLACK)

    @property
    def properties(self) -> Mapping[str, str]:
        """The KCL's properties."""
        if self.moment is not None:
            return {"initialPositionInStreamExtended": str(int(self.moment.timestamp()))}
        return {"initialPositionInStream": self.kind}

    @property
    def iterator(self) -> dict[str, Any]:
        """GetShardIterator's arguments."""
        timestamp = {} if self.moment is None else {"Timestamp": self.moment}
        return {"ShardIteratorType": self.kind, **timestamp}

    def seeds(self, shards: Sequence[Shard]) -> list[str]:
        """The shards whose leases start the application: the KCL makes the children's when their parents end.

        From LATEST on only open shards matter; else the oldest ones that the stream still knows.
        """
        if self.kind == "LATEST":
            return [shard["ShardId"] for shard in shards if is_open(shard)]
        known = {shard["ShardId"] for shard in shards}
        return [shard["ShardId"] for shard in shards if not known.intersection(parents(shard))]


EARLIEST = Begin("TRIM_HORIZON")
LATEST = Begin("LATEST")
