"""The replica in SQLite: in any order, with any duplicates, its tables are those of an ordered replay."""

import sqlite3
import tempfile
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdckit.change import Change, Value
from cdckit.errors import PoisonChange, UsageError
from cdckit.sink import Embedded, Sink, SinkContext
from cdckit.testing import batch, change, deliver
from consumers.replica.sink import open_sink
from tests.support.replica_history import EXPECTED, HISTORY


def open_replica(folder: Path, **options: object) -> Sink:
    return open_sink(SinkContext("replica", "shardId-000000000000", folder, options))


def rows(folder: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(folder / "replica.sqlite")) as connection:
        return connection.execute(query).fetchall()


def test_in_order_the_tables_are_the_source_s(tmp_path: Path) -> None:
    sink = open_replica(tmp_path)
    assert isinstance(sink, Embedded)
    outcome = deliver(sink, *HISTORY)
    assert (outcome.applied, outcome.superseded) == (len(HISTORY), 0)
    assert rows(tmp_path, "SELECT id, a, big FROM orders ORDER BY id") == EXPECTED
    sink.close()


@settings(deadline=None, max_examples=150)
@given(st.permutations(HISTORY), st.lists(st.sampled_from(HISTORY), max_size=6), st.integers(1, 5))
def test_any_order_with_duplicates_converges(order: list[Change], again: list[Change], size: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, delivery = Path(name), [*order, *again]
        sink = open_replica(folder)
        for start in range(0, len(delivery), size):
            deliver(sink, *delivery[start : start + size])
        sink.close()
        assert rows(folder, "SELECT id, a, big FROM orders ORDER BY id") == EXPECTED


def test_an_added_column_is_followed_and_a_dropped_one_stays_null(tmp_path: Path) -> None:
    sink = open_replica(tmp_path)
    deliver(sink, change("I", 1, {"a": "x"}, at=1))
    deliver(sink, change("I", 2, {"a": "y", "Added By": 7}, at=2))
    deliver(sink, change("I", 3, {"Added By": 8}, at=3))
    sink.close()
    assert rows(tmp_path, 'SELECT id, a, "Added By" FROM orders') == [(1, "x", None), (2, "y", 7), (3, None, 8)]


def test_numbers_stay_exact_and_reserved_words_are_quoted(tmp_path: Path) -> None:
    sink = open_replica(tmp_path)
    value: dict[str, Value] = {"order": Decimal("0.1000000000000000000000000001"), "select": 2**80, "yes": True}
    types = {"id": "bigint", "order": "numeric", "select": "numeric", "yes": "boolean"}
    deliver(sink, change("I", 1, value, table='public."user"', types=types))
    sink.close()
    assert rows(tmp_path, 'SELECT "order", "select", yes FROM "user"') == [
        ("0.1000000000000000000000000001", str(2**80), 1)
    ]


def test_other_schemas_and_sources_have_their_own_tables(tmp_path: Path) -> None:
    sink = open_replica(tmp_path)
    deliver(sink, change("I", 1, {}, table="sales.orders"), change("I", 2, {}, source="eu"))
    sink.close()
    assert rows(tmp_path, 'SELECT id FROM "sales.orders"') == [(1,)]
    assert rows(tmp_path, 'SELECT id FROM "eu/orders"') == [(2,)]


def test_names_that_sqlite_cannot_tell_apart_are_poison_and_nothing_is_lost(tmp_path: Path) -> None:
    sink = open_replica(tmp_path)
    deliver(sink, change("I", 1, {"a": "x"}))
    with pytest.raises(PoisonChange, match="cannot tell"):
        sink.apply(batch(change("I", 1, {"a": "y"}, table='public."Orders"', at=2)))
    with pytest.raises(PoisonChange, match="cannot tell"):
        sink.apply(batch(change("I", 2, {"A": "y"}, at=3)))
    deliver(sink, change("I", 3, {"a": "z"}, at=4))
    sink.close()
    assert rows(tmp_path, "SELECT id, a FROM orders") == [(1, "x"), (3, "z")]


def test_an_unknown_option_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown key 'dns'"):
        open_replica(tmp_path, dns="x")
