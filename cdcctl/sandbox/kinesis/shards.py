"""A stream's shards, open and closed, in the dictionary that ministack keeps and saves; splits and merges."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from cdcctl.sandbox.kinesis.refused import invalid, not_found
from cdcctl.sandbox.kinesis.sequence import milliseconds

KEYS = 2**128
Shard = dict[str, Any]
"""Of ministack: starting_ and ending_hash_key, starting_sequence_number, parent_ and adjacent_parent_shard_id.

A closed shard has an ``ending_sequence_number`` too, which ministack does not know.
"""
Shards = dict[str, Shard]
NextNumber = Callable[[], str]


def is_open(shard: Shard) -> bool:
    """Whether it takes records."""
    return "ending_sequence_number" not in shard


def open_shards(shards: Shards) -> list[tuple[str, Shard]]:
    """The open ones, by their hash keys."""
    return sorted(((name, one) for name, one in shards.items() if is_open(one)), key=lambda item: low(item[1]))


def low(shard: Shard) -> int:
    """The first hash key."""
    return int(shard["starting_hash_key"])


def high(shard: Shard) -> int:
    """The last hash key."""
    return int(shard["ending_hash_key"])


def parents(shard: Shard) -> list[str]:
    """None, one after a split, two after a merge."""
    return [name for name in (shard.get("parent_shard_id"), shard.get("adjacent_parent_shard_id")) if name]


def shown(name: str, shard: Shard) -> dict[str, Any]:
    """A shard as ListShards has it."""
    numbers = {"StartingSequenceNumber": shard["starting_sequence_number"]}
    if not is_open(shard):
        numbers["EndingSequenceNumber"] = shard["ending_sequence_number"]
    of = dict(zip(("ParentShardId", "AdjacentParentShardId"), parents(shard), strict=False))
    return {"ShardId": name, "HashKeyRange": _range(shard), "SequenceNumberRange": numbers, **of}


def children(shards: Shards, name: str) -> list[dict[str, Any]]:
    """ChildShards, as the last GetRecords of a closed shard has them."""
    return [
        {"ShardId": child, "ParentShards": parents(one), "HashKeyRange": _range(one)}
        for child, one in sorted(shards.items())
        if name in parents(one)
    ]


def wanted(shards: Shards, chosen: dict[str, Any]) -> Iterator[str]:
    """The shards that a ShardFilter names; closed shards whose retention is over are gone already."""
    kind, moment = str(chosen.get("Type")), int(float(chosen.get("Timestamp") or 0) * 1000)
    for name, shard in sorted(shards.items()):
        began = milliseconds(shard["starting_sequence_number"])
        ended = None if is_open(shard) else milliseconds(shard["ending_sequence_number"])
        yes = {
            "AFTER_SHARD_ID": name > str(chosen.get("ShardId")),
            "AT_LATEST": ended is None,
            "AT_TRIM_HORIZON": not any(parent in shards for parent in parents(shard)),
            "FROM_TRIM_HORIZON": True,
            "AT_TIMESTAMP": began <= moment and (ended is None or ended >= moment),
            "FROM_TIMESTAMP": ended is None or ended >= moment,
        }.get(kind)
        if yes is None:
            raise invalid(f"no such ShardFilter: {kind}")
        if yes:
            yield name


def split(shards: Shards, name: str, key: int, number: NextNumber) -> None:
    """Close a shard; two children share its hash keys, the second from `key` on."""
    shard = _open(shards, name)
    if not low(shard) < key <= high(shard):
        raise invalid(f"NewStartingHashKey {key} is not inside the range of {name}")
    _close(shard, number)
    for first, last in ((low(shard), key - 1), (key, high(shard))):
        _add(shards, first, last, [name], number)


def merge(shards: Shards, name: str, other: str, number: NextNumber) -> None:
    """Close two neighbours; one child has the hash keys of both."""
    one, two = sorted((_open(shards, name), _open(shards, other)), key=low)
    if high(one) + 1 != low(two):
        raise invalid(f"{name} and {other} are not adjacent")
    _close(one, number)
    _close(two, number)
    _add(shards, low(one), high(two), [name, other], number)


def scale(shards: Shards, count: int, number: NextNumber) -> None:
    """Split and merge until there are `count` open shards of one size (UpdateShardCount, UNIFORM_SCALING)."""
    now = len(open_shards(shards))
    if count > 2 * now:
        raise invalid(f"cannot scale up over double the current open shard count. Current: {now}, target: {count}")
    if 2 * count < now:
        raise invalid(f"cannot scale down below half the current open shard count. Current: {now}, target: {count}")
    edges = {KEYS * place // count for place in range(1, count)}
    for key in sorted(edges - _edges(shards)):
        name = next(name for name, one in open_shards(shards) if low(one) < key <= high(one))
        split(shards, name, key, number)
    for key in sorted(_edges(shards) - edges):
        found = [name for name, one in open_shards(shards) if key in (low(one), high(one) + 1)]
        merge(shards, found[0], found[1], number)


def _edges(shards: Shards) -> set[int]:
    return {low(one) for _, one in open_shards(shards)} - {0}


def _range(shard: Shard) -> dict[str, str]:
    return {"StartingHashKey": shard["starting_hash_key"], "EndingHashKey": shard["ending_hash_key"]}


def _open(shards: Shards, name: str) -> Shard:
    if name not in shards:
        raise not_found(f"Shard {name}")
    if not is_open(shards[name]):
        raise invalid(f"{name} is closed already")
    return shards[name]


def _close(shard: Shard, number: NextNumber) -> None:
    shard["ending_sequence_number"] = number()


def _add(shards: Shards, first: int, last: int, of: list[str], number: NextNumber) -> None:
    name = f"shardId-{max(int(one.rpartition('-')[2]) for one in shards) + 1:012d}"
    shards[name] = {
        "records": [],  # ministack's own store, which stays empty
        "starting_hash_key": str(first),
        "ending_hash_key": str(last),
        "starting_sequence_number": number(),
        "parent_shard_id": of[0],
        "adjacent_parent_shard_id": of[1] if len(of) > 1 else None,
    }
