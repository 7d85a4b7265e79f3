"""A fence checks the lease of each shard. The KCL deletes the leases of shards that were finished long ago."""

from types import SimpleNamespace
from typing import Any

import pytest

from cdcctl.verify.fence import Fence
from cdckit.errors import SatelliteError
from cdckit.position import Lsn
from cdckit.runtime.settings import Settings
from consumers.kcl.leases import Lease
from consumers.replay.estimate import ShardEstimate, seconds_to_read


def shard(name: str, *parents: str, closed: bool = True) -> dict[str, Any]:
    keys = ("ParentShardId", "AdjacentParentShardId")
    numbers = {"StartingSequenceNumber": "1", **({"EndingSequenceNumber": "2"} if closed else {})}
    return {"ShardId": name, "SequenceNumberRange": numbers, **dict(zip(keys, parents, strict=False))}


SHARDS = [
    shard("0"), shard("1", "0"), shard("2", "0"), shard("3", "1", "2"), shard("4", "3", closed=False),
    shard("5", "3", closed=False),
]  # fmt: skip


class Kinesis:
    """A stream that was split, merged and split, and has no records left."""

    def get_paginator(self, _: str) -> Any:
        page = {"Shards": SHARDS, "ResponseMetadata": {"HTTPHeaders": {}}}
        return SimpleNamespace(paginate=lambda **_: [page])

    def get_shard_iterator(self, ShardId: str, **_: str) -> dict[str, str]:  # noqa: N803 -- boto3's name
        return {"ShardIterator": ShardId}

    def get_records(self, **_: object) -> dict[str, Any]:
        return {"Records": [], "MillisBehindLatest": 0}


def answer(statement: str, _values: object = None) -> list[tuple[object, ...]]:
    """The slot is acknowledged to 0/20, beyond the fence at 0/10."""
    if "pg_replication_slots" in statement:
        return [("wal2json", "shop", 1, "0/20", "reserved", 0, None)]
    return [("0/10",)]


def passed(*leases: str) -> Lsn:
    leases_by_shard = {name: Lease(name, "17", 0, "worker", 1) for name in leases}
    source = SimpleNamespace(query=answer)
    table = SimpleNamespace(read=lambda: leases_by_shard, application="app")
    fence = Fence(source, Settings(), "search", Kinesis(), table, timeout=0.0)  # type: ignore[arg-type]
    return fence.wait()


def test_a_shard_counts_as_finished_when_a_descendant_has_a_lease() -> None:
    assert passed("4", "5") == Lsn(16)


@pytest.mark.parametrize("leases", [("4",), ("1", "2")])
def test_a_shard_without_lease_and_without_leased_descendants_is_behind(leases: tuple[str, ...]) -> None:
    with pytest.raises(SatelliteError, match="search is still behind on"):
        passed(*leases)


def test_estimates_with_many_splits_and_merges_are_fast() -> None:
    shards = [shard("0")]
    for number in range(0, 120, 3):
        left, right, merged = (str(number + more) for more in (1, 2, 3))
        shards += [shard(left, str(number)), shard(right, str(number)), shard(merged, left, right)]
    parts = [ShardEstimate(part["ShardId"], "", 1, 2_000_000, exact=True) for part in shards]
    assert seconds_to_read(parts, shards) == pytest.approx(81 * seconds_to_read(parts[:1], shards[:1]))
