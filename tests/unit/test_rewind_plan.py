"""Which checkpoints a rewind writes across splits and merges."""

from collections.abc import Mapping
from typing import Any

from consumers.kcl.leases import Lease
from consumers.replay.rewind import RewindPlan, frontier, resume_plan, rewind_plan


def shard(name: str, *parents: str, closed: bool = False) -> dict[str, Any]:
    keys = ("ParentShardId", "AdjacentParentShardId")
    end = {"EndingSequenceNumber": "9"} if closed else {}
    return {"ShardId": name, "SequenceNumberRange": end, **dict(zip(keys, parents, strict=False))}


# a was split into b and c; c and d were merged into e
SHARDS = [
    shard("e", "c", "d"),
    shard("a", closed=True),
    shard("b", "a"),
    shard("c", "a", closed=True),
    shard("d", closed=True),
]


def leases(**checkpoints: str) -> Mapping[str, Lease]:
    return {name: Lease(name, checkpoint, 0, None, 1) for name, checkpoint in checkpoints.items()}


def first(*holding: str) -> set[str]:
    return set(frontier(SHARDS, lambda one: one in holding))


def test_the_frontier_is_the_first_shard_of_each_key_range_that_holds_records() -> None:
    assert first("a", "c", "d") == {"a", "d"}
    assert first("c", "d") == {"b", "c", "d"}
    assert first() == {"b", "e"}


def test_a_merged_shard_s_parents_go_together() -> None:
    assert first("c") == {"b", "c", "d"}
    assert first("d") == {"b", "c", "d"}


def test_leases_below_the_frontier_are_removed() -> None:
    existing = leases(b="100", e="200", d="SHARD_END")
    found = rewind_plan(SHARDS, ["a", "d"], existing, lambda one: "50")
    assert found == RewindPlan({"a": "50", "d": "50"}, ["b", "e"])


def test_a_checkpoint_is_never_moved_forward() -> None:
    assert rewind_plan(SHARDS, ["b", "e"], leases(b="40", e="60"), lambda one: "50") == RewindPlan({"e": "50"}, [])
    assert rewind_plan(SHARDS, ["b", "e"], leases(b="TRIM_HORIZON", e="50"), lambda one: "50") == RewindPlan({}, [])
    assert rewind_plan(SHARDS, ["b"], leases(a="3"), lambda one: "50") == RewindPlan({}, []), (
        "its parent is not read yet"
    )


def test_after_a_whole_replay_the_consumer_continues_where_it_ended() -> None:
    existing = leases(a="SHARD_END", b="100", e="200")
    read_to = {"a": "SHARD_END", "c": "SHARD_END", "d": "SHARD_END", "b": "70", "e": "80"}
    assert resume_plan(SHARDS, read_to, existing) == RewindPlan({"a": "SHARD_END", "b": "70", "e": "80"}, [])
    assert resume_plan(SHARDS, {"a": "SHARD_END", "c": "7", "d": "8"}, existing) == RewindPlan(
        {"a": "SHARD_END", "c": "7", "d": "8", "b": "TRIM_HORIZON"}, ["e"]
    )
