"""Splits, merges and lists a stream's shards, in the dictionary that ministack stores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from cdcctl.sandbox.kinesis.errors import invalid_argument, not_found
from cdcctl.sandbox.kinesis.sequence import milliseconds

HASH_KEYS = 2**128
Shard = dict[str, Any]
"""Ministack's: starting_ and ending_hash_key, starting_sequence_number, parent_ and adjacent_parent_shard_id.

A closed shard also has an ``ending_sequence_number``, which ministack does not have.
"""
Shards = dict[str, Shard]
NextNumber = Callable[[], str]


def is_open(shard: Shard) -> bool:
    """Whether the shard accepts records."""
    return "ending_sequence_number" not in shard


def open_shards(shards: Shards) -> list[tuple[str, Shard]]:
    """The open shards, in the order of their hash keys."""
    found = [(name, shard) for name, shard in shards.items() if is_open(shard)]
    return sorted(found, key=lambda item: low(item[1]))


def low(shard: Shard) -> int:
    """The first hash key."""
    return int(shard["starting_hash_key"])


def high(shard: Shard) -> int:
    """The last hash key."""
    return int(shard["ending_hash_key"])


def parents(shard: Shard) -> list[str]:
    """The parents of a shard: none at first, one after a split, two after a merge."""
    return [name for name in (shard.get("parent_shard_id"), shard.get("adjacent_parent_shard_id")) if name]


def describe(name: str, shard: Shard) -> dict[str, Any]:
    """A shard in the form of ListShards."""
    numbers = {"StartingSequenceNumber": shard["starting_sequence_number"]}
    if not is_open(shard):
        numbers["EndingSequenceNumber"] = shard["ending_sequence_number"]
    parent_ids = dict(zip(("ParentShardId", "AdjacentParentShardId"), parents(shard), strict=False))
    return {"ShardId": name, "HashKeyRange": _range(shard), "SequenceNumberRange": numbers, **parent_ids}


def children(shards: Shards, name: str) -> list[dict[str, Any]]:
    """The ChildShards in the last GetRecords answer of a closed shard."""
    return [
        {"ShardId": child, "ParentShards": parents(shard), "HashKeyRange": _range(shard)}
        for child, shard in sorted(shards.items())
        if name in parents(shard)
    ]


def matching(shards: Shards, shard_filter: dict[str, Any]) -> Iterator[str]:
    """The shards that match a ShardFilter. `shards` has no closed shards whose retention is over."""
    kind, moment = str(shard_filter.get("Type")), int(float(shard_filter.get("Timestamp") or 0) * 1000)
    for name, shard in sorted(shards.items()):
        began = milliseconds(shard["starting_sequence_number"])
        ended = None if is_open(shard) else milliseconds(shard["ending_sequence_number"])
        matches = {
            "AFTER_SHARD_ID": name > str(shard_filter.get("ShardId")),
            "AT_LATEST": ended is None,
            "AT_TRIM_HORIZON": not any(parent in shards for parent in parents(shard)),
            "FROM_TRIM_HORIZON": True,
            "AT_TIMESTAMP": began <= moment and (ended is None or ended >= moment),
            "FROM_TIMESTAMP": ended is None or ended >= moment,
        }.get(kind)
        if matches is None:
            raise invalid_argument(f"invalid type of ShardFilter: {kind}")
        if matches:
            yield name


def split(shards: Shards, name: str, key: int, number: NextNumber) -> None:
    """Close a shard and add two children, the second of which starts at the hash key `key`."""
    shard = _open(shards, name)
    if not low(shard) < key <= high(shard):
        raise invalid_argument(f"NewStartingHashKey {key} is not inside the range of {name}")
    _close(shard, number)
    for first, last in ((low(shard), key - 1), (key, high(shard))):
        _add(shards, first, last, [name], number)


def merge(shards: Shards, name: str, other: str, number: NextNumber) -> None:
    """Close two adjacent shards and add one child with the hash keys of both."""
    lower, upper = sorted((_open(shards, name), _open(shards, other)), key=low)
    if high(lower) + 1 != low(upper):
        raise invalid_argument(f"{name} and {other} are not adjacent")
    _close(lower, number)
    _close(upper, number)
    _add(shards, low(lower), high(upper), [name, other], number)


def scale(shards: Shards, count: int, number: NextNumber) -> None:
    """Split and merge until there are `count` open shards of equal size (UpdateShardCount, UNIFORM_SCALING)."""
    now = len(open_shards(shards))
    if count > 2 * now:
        raise invalid_argument(
            f"cannot scale up over double the current open shard count. Current: {now}, target: {count}"
        )
    if 2 * count < now:
        raise invalid_argument(
            f"cannot scale down below half the current open shard count. Current: {now}, target: {count}"
        )
    borders = {HASH_KEYS * index // count for index in range(1, count)}
    for key in sorted(borders - _borders(shards)):
        name = next(name for name, shard in open_shards(shards) if low(shard) < key <= high(shard))
        split(shards, name, key, number)
    for key in sorted(_borders(shards) - borders):
        lower, upper = (name for name, shard in open_shards(shards) if key in (low(shard), high(shard) + 1))
        merge(shards, lower, upper, number)


def _borders(shards: Shards) -> set[int]:
    return {low(shard) for _, shard in open_shards(shards)} - {0}


def _range(shard: Shard) -> dict[str, str]:
    return {"StartingHashKey": shard["starting_hash_key"], "EndingHashKey": shard["ending_hash_key"]}


def _open(shards: Shards, name: str) -> Shard:
    if name not in shards:
        raise not_found(f"Shard {name}")
    if not is_open(shards[name]):
        raise invalid_argument(f"{name} is already closed")
    return shards[name]


def _close(shard: Shard, number: NextNumber) -> None:
    shard["ending_sequence_number"] = number()


def _add(shards: Shards, first: int, last: int, parent_ids: list[str], number: NextNumber) -> None:
    name = f"shardId-{max(int(existing.rpartition('-')[2]) for existing in shards) + 1:012d}"
    shards[name] = {
        "records": [],  # where ministack's own Kinesis stores records; stays empty
        "starting_hash_key": str(first),
        "ending_hash_key": str(last),
        "starting_sequence_number": number(),
        "parent_shard_id": parent_ids[0],
        "adjacent_parent_shard_id": parent_ids[1] if len(parent_ids) > 1 else None,
    }
