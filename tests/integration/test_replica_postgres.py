"""The replica in another PostgreSQL: same tables, names and types, in any order of delivery."""

import random
from pathlib import Path

import pytest

from cdckit.change import Change, Value
from cdckit.errors import SatelliteError
from cdckit.sink import SinkContext
from cdckit.testing import change, deliver
from consumers.replica.sink import open_sink
from tests.support.postgres import Database
from tests.support.replica_history import EXPECTED, HISTORY

pytestmark = pytest.mark.integration
TYPES = {
    "id": "integer", "price": "numeric(12,2)", "at": "timestamp with time zone", "raw": "bytea", "doc": "jsonb",
    "tags": "text[]", "mood": "mood", "yes": "boolean", "per%cent?": "text",
}  # fmt: skip


def context(postgres: Database) -> SinkContext:
    return SinkContext("replica", "shard", Path("/nowhere"), {"dsn": postgres.dsn})


def test_disorder_and_duplicates_converge(postgres: Database) -> None:
    for seed in range(20):
        order: list[Change] = [*HISTORY, *random.Random(seed).choices(HISTORY, k=4)]
        random.Random(seed).shuffle(order)
        sink = open_sink(context(postgres))
        for start in range(0, len(order), 3):
            deliver(sink, *order[start : start + 3])
        sink.close()
        assert postgres.query("SELECT id, a, big FROM orders ORDER BY id") == EXPECTED
        postgres.run("DROP TABLE orders, cdc_row, cdc_watermark")


def test_types_are_those_of_the_source_and_an_unknown_type_is_text(postgres: Database) -> None:
    values: dict[str, Value] = {
        "price": 10, "at": "2026-11-24 10:00:00.5+00", "raw": "00ff", "doc": '{"a": [1, 2]}',
        "tags": "{a,NULL,\"b c\"}",
        "mood": "happy", "yes": True, "per%cent?": "100 %?",
    }  # fmt: skip
    sink = open_sink(context(postgres))
    deliver(sink, change("I", 1, values, types=TYPES, table='sales."Order?"'))
    sink.close()
    query = """SELECT price::text, at AT TIME ZONE 'UTC', raw, doc -> 'a' ->> 1, tags[3], mood, yes, "per%cent?"
               FROM sales."Order?" """
    [(price, at, raw, second, tag, mood, yes, percent)] = postgres.query(query)
    assert (price, str(at), bytes(raw), second, tag, mood, yes, percent) == (
        "10.00", "2026-11-24 10:00:00.500000", b"\x00\xff", "2", "b c", "happy", True, "100 %?",
    )  # fmt: skip
    shown = dict(
        postgres.query("SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'Order?'")
    )
    assert shown["price"] == "numeric"
    assert shown["mood"] == "text"


def test_a_connection_error_names_the_server_without_its_password() -> None:
    with pytest.raises(SatelliteError, match=r"cannot connect to the replica at .*\*\*\*@127") as raised:
        open_sink(SinkContext("replica", "s", Path("/nowhere"), {"dsn": "postgresql://u:secret@127.0.0.1:1/x"}))
    assert "secret" not in raised.value.message
