"""``python -m cdcctl.sandbox.kinesis_pages``: ministack, whose GetRecords answers 10 MiB at the most, as Kinesis does.

Without that a page of folded records may be hundreds of megabytes, more than the KCL's Java heap.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from ministack import app
from ministack.services import kinesis

PAGE_BYTES = 10 * 1024 * 1024
GetRecords = Callable[[dict[str, Any]], Any]


def capped(get_records: GetRecords) -> GetRecords:
    """Ministack's own GetRecords, asked for no more records than a page holds; always for one."""

    def answer(asked: dict[str, Any]) -> Any:
        with suppress(AttributeError, KeyError, TypeError):  # its own error, or another ministack's way to keep records
            asked = {**asked, "Limit": _fitting(asked)}
        return get_records(asked)

    return answer


def _fitting(asked: Mapping[str, Any]) -> int:
    place, limit = kinesis._shard_iterators[asked["ShardIterator"]], min(asked.get("Limit", 10_000), 10_000)
    records = kinesis._streams[place["stream"]]["shards"][place["shard_id"]]["records"]
    count = size = 0
    for record in records[place["position"] : place["position"] + limit]:
        size += len(record["Data"]) * 3 // 4
        if count and size > PAGE_BYTES:
            break
        count += 1
    return max(1, count)


def main() -> None:
    """Run ministack, set up by its own environment variables."""
    kinesis._get_records = capped(kinesis._get_records)
    app.main()


if __name__ == "__main__":
    main()
