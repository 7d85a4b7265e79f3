"""Golden records hold the wire format: today's code reads them as it did, and writes the same bytes."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cdckit.aggregation import unpack
from cdckit.change import Change
from cdckit.claim_check import decode_reference, restore
from cdckit.envelope import decode
from cdckit.packing import decompress, split_folded
from tests.golden import encoding
from tests.golden.encoding import lines, read

RECORDS = lines("records.jsonl")
PARTITION_KEYS = read("partition_keys.txt").decode().splitlines()
PAGE = Path(__file__).parents[2] / "docs" / "wire-format.md"


@pytest.mark.parametrize("record", RECORDS)
def test_a_record_is_taken_apart_and_written_again_byte_for_byte(record: bytes) -> None:
    assert encoding.reinjected(record) == record
    assert encoding.rewritten(record) == record


def test_the_producer_writes_the_same_records_under_the_same_partition_keys() -> None:
    records = encoding.records(lines("messages.jsonl"))
    assert [record.data for record in records] == RECORDS
    assert [record.partition_key for record in records] == PARTITION_KEYS
    assert [record.every_shard for record in records] == [b'"action":"T"' in record for record in RECORDS]


def test_records_are_decoded_to_the_same_changes() -> None:
    assert [encoding.as_json(decode(record)) for record in RECORDS] == lines("decoded.jsonl")


def test_a_compressed_record() -> None:
    assert decompress(read("compressed.gz")) == RECORDS[0]
    assert encoding.as_json(decode(read("compressed.gz"))) == lines("decoded.jsonl")[0]


def test_a_folded_record() -> None:
    assert split_folded(read("folded.gz")) == lines("folded.jsonl")
    assert encoding.snapshot_rows() == read("folded.jsonl")
    assert [decode(line).annotation for line in lines("folded.jsonl")] == [{"read": "snapshot"}] * 2


def test_an_aggregated_record() -> None:
    records = encoding.records(lines("messages.jsonl"))
    assert encoding.aggregated(records) == read("aggregated.kpl")
    inside = unpack(read("aggregated.kpl"), "cdc")
    assert [record.data for record in inside] == RECORDS
    assert [record.partition_key for record in inside] == PARTITION_KEYS
    assert [record.hash_key for record in inside] == [None] * (len(RECORDS) - 1) + ["0"]


def test_a_reference_and_its_object() -> None:
    golden, body = read("reference.json"), read("oversized.json.gz")
    kept = decode_reference(golden)
    assert kept is not None
    assert restore(kept, body) == RECORDS[0]
    oversized = encoding.records(lines("messages.jsonl"))[0]
    assert encoding.claim_check_of(oversized, body) == golden


def test_the_code_of_the_page_reads_every_kind() -> None:
    page: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        exec(block, page)
    objects = {msgspec.json.decode(read("reference.json"))["kept"]["url"]: read("oversized.json.gz")}

    def changes(data: bytes) -> list[Any]:
        return list(page["changes"](data, objects.__getitem__))

    decoded = [decode(record) for record in RECORDS]
    expected = [_shown(change) for change in decoded]
    assert changes(read("aggregated.kpl")) == expected
    assert changes(read("compressed.gz")) == expected[:1]
    assert changes(read("reference.json")) == expected[:1]
    assert changes(read("folded.gz")) == [_shown(decode(line)) for line in lines("folded.jsonl")]


def _shown(change: Change) -> tuple[Any, ...]:
    """A decoded change as the page's functions return it."""
    if change.table.schema == "pg_logical_message":
        assert change.after is not None
        return change.table.name, change.after["content"], _Time(change)
    position = (change.position.epoch, change.position.commit_lsn, change.position.index)
    return change.op, change.table.schema, change.table.name, change.key, change.after or {}, position


class _Time:
    """Equals the text of a change's commit time, however that is written."""

    def __init__(self, change: Change) -> None:
        self._time = change.commit_time

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and type(self._time).fromisoformat(other) == self._time

    __hash__ = None  # type: ignore[assignment]
