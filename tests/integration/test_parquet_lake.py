"""The lake through its public interface: each change exactly once, under redelivery, several writers and any names."""

import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from deltalake import DeltaTable, Schema
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cdckit.change import Change, Table, Value
from cdckit.errors import SatelliteError, UsageError
from cdckit.sink import Outcome, Sink, SinkContext
from cdckit.testing import MemorySink, batch, change, deliver, scrambled
from consumers.parquet.read.current_rows import current_rows
from consumers.parquet.read.query import connect
from consumers.parquet.sink import open_sink
from consumers.parquet.write import arrow_rows, data_files

A, B = "shardId-000000000000", "shardId-000000000001"
QUIET = {"compact": False}


def sink(folder: Path, shard: str = A, **options: object) -> Sink:
    return open_sink(SinkContext("parquet", shard, folder, {**QUIET, **options}))


def ask(folder: Path | str, sql: str) -> list[tuple[Any, ...]]:
    return connect(folder).sql(sql).fetchall()


def positions(folder: Path, table: str = "orders") -> list[str]:
    return [row[0] for row in ask(folder, f"SELECT _position FROM {table}_changes ORDER BY ALL")]


def history() -> list[Change]:
    """Inserts, updates without an unchanged column, a delete, an insert of the same key, a truncate, later changes."""
    return [
        change("I", 1, {"note": "long", "n": 1}, at=1),
        change("I", 2, {"note": None, "n": 1}, at=2),
        change("U", 1, {"n": 2}, at=3),
        change("D", 2, at=4),
        change("I", 2, {"note": "again", "n": 7}, at=5),
        change("U", 2, {"note": None, "n": 8}, at=6),
        change("I", 3, {"note": "x", "n": 0}, at=7),
        change("T", at=8),
        change("I", 1, {"note": "new", "n": 1}, at=9),
        change("U", 1, {"n": 2}, at=9, index=1),
    ]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.lists(st.integers(0, 9), max_size=15), cuts=st.sets(st.integers(1, 25), max_size=4))
def test_any_redelivery_in_any_order_leaves_each_change_once(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], cuts: set[int]
) -> None:
    folder = tmp_path_factory.mktemp("lake")
    changes = history()
    delivered = scrambled(changes, order) + changes
    memory, total = MemorySink(), Outcome()
    deliver(memory, *changes)
    writer = sink(folder)
    for first, last in _slices(len(delivered), cuts):
        total += deliver(writer, *delivered[first:last])
    assert total == Outcome(len(changes), len(delivered) - len(changes))
    assert positions(folder) == sorted(item.position.sort_key for item in changes)
    expected = {row.rpartition("/")[2]: values for row, values in memory.rows.items()}
    assert dict(current_rows(folder, "main", Table("public", "orders"))) == expected
    assert ask(folder, "SELECT id, note, n FROM orders ORDER BY id") == [
        (row["id"], row["note"], row["n"]) for row in expected.values()
    ]


def _slices(length: int, cuts: set[int]) -> list[tuple[int, int]]:
    ends = [0, *sorted(cut for cut in cuts if cut < length), length]
    return [(first, last) for first, last in itertools.pairwise(ends) if first < last]


@pytest.mark.parametrize("shard", [A, B])
def test_a_writer_that_was_paused_between_check_and_commit_adds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shard: str
) -> None:
    paused, successor = sink(tmp_path), sink(tmp_path, shard)
    deliver(paused, change("I", 0, {"n": 0}, at=1))
    changes = [change("I", key, {"n": key}, at=2 + key) for key in range(1, 50)]
    stored = data_files.write_files
    pending: list[Callable[[], object]] = [
        lambda: deliver(successor, *changes, change("I", 99, {"n": 99}, at=99), shard=shard)
    ]

    def store(*arguments: Any) -> Any:
        made = stored(*arguments)
        if pending:
            pending.pop()()
        return made

    monkeypatch.setattr("consumers.parquet.write.changelog.write_files", store)
    assert deliver(paused, *changes) == Outcome(applied=0, superseded=49)
    assert len(positions(tmp_path)) == len(set(positions(tmp_path))) == 51


def test_a_paused_writer_with_a_new_column_adds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paused, successor = sink(tmp_path), sink(tmp_path)
    deliver(paused, change("I", 0, {"n": 0}, at=1))
    newer = change("I", 1, {"n": 1, "added": "x"}, at=2)
    original = arrow_rows.group_changes
    pending = [True]

    def grouped(changes: Any) -> Any:
        if pending:
            pending.pop()
            deliver(successor, newer)
        return original(changes)

    monkeypatch.setattr("consumers.parquet.write.changelog.group_changes", grouped)
    assert deliver(paused, newer) == Outcome(superseded=1)
    assert ask(tmp_path, "SELECT id, added FROM orders ORDER BY id") == [(0, None), (1, "x")]


def test_a_truncate_that_every_shard_delivers_is_one_change(tmp_path: Path) -> None:
    changes = [change("I", 1, {"n": 1}, at=1), change("T", at=2)]
    assert deliver(sink(tmp_path, A), *changes) == Outcome(applied=2)
    late = [change("T", at=2), change("I", 2, {"n": 1}, at=1, index=1)]
    assert deliver(sink(tmp_path, B), *late, shard=B) == Outcome(applied=1, superseded=1)
    assert ask(tmp_path, "SELECT * FROM orders") == []


def test_a_failed_commit_may_be_flushed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = sink(tmp_path)
    writer.apply(batch(change("I", 1, {"n": 1}, at=1), change("I", 1, {"n": 1}, at=2, table="public.other")))
    stored, calls = data_files.write_files, []

    def store(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise OSError("disk full")
        return stored(*arguments)

    monkeypatch.setattr("consumers.parquet.write.changelog.write_files", store)
    with pytest.raises(SatelliteError, match="disk full"):
        writer.flush()
    assert writer.flush() == Outcome(applied=2)
    assert [len(positions(tmp_path, name)) for name in ("orders", "other")] == [1, 1]


def test_the_check_of_rising_positions_opens_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []

    def dataset(paths: list[str], **more: Any) -> Any:
        opened.append(len(paths))
        return ds.dataset(paths, **more)

    monkeypatch.setattr("consumers.parquet.write.known_positions.ds", SimpleNamespace(dataset=dataset, field=ds.field))
    writer = sink(tmp_path)
    for at in range(1, 41):
        deliver(writer, change("I", at, {"n": at}, at=at))
    assert opened == []
    deliver(sink(tmp_path), change("I", 20, {"n": 20}, at=20))
    assert opened == [1], "of 40 files only the one whose range contains the position"


HOSTILE = ["../x", "a/b", "..", ".", "a b", "Orders", "orders", "ORDERS", "🦊" * 15, 'q"u', "it's", "a.b", "con", "%2e",
           "_delta_log", "a\nb", "x_x2F_y", "--", "*?[", "_commit_date=1"]  # fmt: skip


def test_hostile_names_of_tables_stay_apart_and_inside_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "in" / "lake"
    changes = [
        _hostile(Table(schema, name), {"id": 1, "name": f"{schema}|{name}"}, at)
        for at, (schema, name) in enumerate([(s, n) for n in HOSTILE for s in ("public", "../../s", "Public")], 1)
    ]
    assert deliver(sink(folder), *changes).applied == len(changes)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["lake"]
    for item in changes:
        [(_, row)] = current_rows(folder, "main", item.table)
        assert row["name"] == f"{item.table.schema}|{item.table.name}"
    connection = connect(folder)
    shown = connection.sql(
        "SELECT schema_name, view_name FROM duckdb_views() WHERE NOT internal AND view_name NOT LIKE '%\\_changes' "
        "ESCAPE '\\' AND view_name NOT LIKE '\\_lake%' ESCAPE '\\'"
    ).fetchall()
    found = {connection.sql(f"SELECT name FROM {_quote(s)}.{_quote(v)}").fetchall()[0][0] for s, v in shown}
    assert found == {f"{item.table.schema}|{item.table.name}" for item in changes}


def test_hostile_names_of_columns_are_kept(tmp_path: Path) -> None:
    names = [*HOSTILE, "_op", "_position", "_key", "_partition", "_commit_date", "_columns", "id__bigint"]
    row: dict[str, Value] = {name: f"<{name}>" for name in names}
    item = _hostile(Table("public", "t"), {"id": 1, **row}, 1)
    deliver(sink(tmp_path), item)
    [(_, found)] = current_rows(tmp_path, "main", Table("public", "t"))
    assert found == {"id": 1, **row}
    answer = connect(tmp_path).sql("SELECT * FROM t")
    assert set(answer.fetchall()[0]) == {1, *row.values()}
    ours = {"_op", "_position", "_key", "_commit_date", "_columns"}  # a column of the user's is shown as _op_x_2
    assert {name.casefold() for name in names} - ours <= {name.casefold() for name in answer.columns}


def _hostile(table: Table, row: dict[str, Value], at: int) -> Change:
    made = change("I", {"id": row["id"]}, row, at=at)
    return msgspec.structs.replace(made, table=table)


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def typed(key: int, at: int, **cells: tuple[str, Value]) -> Change:
    """An insert whose columns are given as (type, value)."""
    types = {"id": "integer", **{name: kind for name, (kind, _) in cells.items()}}
    return change("I", key, {name: value for name, (_, value) in cells.items()}, at=at, types=types)


def test_columns_that_are_added_dropped_widened_retyped_and_renamed(tmp_path: Path) -> None:
    writer = sink(tmp_path)
    deliver(writer, typed(1, 1, n=("integer", 1), gone=("text", "g"), size=("integer", 5), old=("text", "o")))
    deliver(
        writer,
        typed(2, 2, n=("bigint", 2**40), size=("text", "XL"), new=("text", "o"), extra=("boolean", True)),
        typed(3, 3, n=("integer", 3), gone=("text", "late"), size=("integer", 6), old=("text", "o")),
    )
    deliver(sink(tmp_path, B), typed(4, 4, n=("bigint", 4), size=("text", None), new=("text", "p")), shard=B)
    assert ask(tmp_path, "SELECT id, n, gone, size, old, new, extra FROM orders ORDER BY id") == [
        (1, 1, "g", "5", "o", None, None),
        (2, 2**40, None, "XL", None, "o", True),
        (3, 3, "late", "6", "o", None, None),
        (4, 4, None, None, None, "p", None),
    ]
    table = DeltaTable(str(tmp_path / "main/public/orders"))
    assert {"n", "n__bigint", "size", "size__text"} <= {field.name for field in table.schema().fields}
    assert len(table.file_uris()) == 3, "two versions in one batch are one file"


def test_what_the_newer_type_cannot_hold_is_in_the_column_exact(tmp_path: Path) -> None:
    deliver(sink(tmp_path), typed(1, 1, size=("text", "XL")), typed(2, 2, size=("text", "7")))
    deliver(sink(tmp_path), typed(3, 3, size=("integer", 8)))
    rows = [(1, None, {"size": "XL"}), (2, 7, {}), (3, 8, {})]
    assert ask(tmp_path, "SELECT id, size, _exact FROM orders ORDER BY id") == rows
    assert ask(tmp_path, "SELECT id, size, _exact FROM orders_changes ORDER BY id") == rows


def test_a_column_that_no_file_has_yet_reads_as_null(tmp_path: Path) -> None:
    deliver(sink(tmp_path), change("I", 1, {"n": 1}, at=1))
    table = DeltaTable(str(tmp_path / "main/public/orders"))
    field = pa.field("d", pa.decimal128(10, 2), metadata={"pg_name": "d", "pg_type": "numeric(10,2)"})
    table.alter.add_columns(Schema.from_arrow(pa.schema([field])).fields)  # killed before the file's own commit
    assert ask(tmp_path, "SELECT id, d FROM orders") == [(1, None)]


@pytest.mark.parametrize(
    ("partition_by", "folders"),
    [
        ("_commit_date", ["_commit_date=2026-01-01"]),
        ("", [""]),
        ("region", ["_partition=__HIVE_DEFAULT_PARTITION__", "_partition=a%20b%2F%3D%C3%BC", "_partition=eu"]),
    ],
)
def test_partitions(tmp_path: Path, partition_by: str, folders: list[str]) -> None:
    writer = sink(tmp_path, partition_by=partition_by)
    regions: list[Value] = ["eu", None, "", "a b/=ü", "eu"]
    for at, region in enumerate(regions, 1):
        deliver(writer, change("I", at, {"region": region}, at=at))
    deliver(writer, change("D", 5, at=9))
    root = tmp_path / "main/public/orders"
    assert sorted({str(file.parent.relative_to(root)).removeprefix(".") for file in root.rglob("*.parquet")}) == folders
    assert ask(tmp_path, "SELECT id, region FROM orders ORDER BY id") == list(enumerate(regions[:4], 1))
    assert len(positions(tmp_path)) == 6
    assert deliver(sink(tmp_path), change("I", 3, {"region": ""}, at=3)) == Outcome(superseded=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"flush_secs": 1}, "flush_secs"),
        ({"flush_seconds": "soon"}, "flush_seconds"),
        ({"target_mb": 0}, "target_mb"),
        ({"retention_hours": 0}, "retention_hours"),
        ({"url": "gs://bucket/x"}, "gs://"),
    ],
)
def test_an_invalid_option_is_refused_by_name(tmp_path: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_sink(SinkContext("parquet", A, tmp_path, options))
    assert message in str(caught.value)
    assert caught.value.hint


def test_the_sink_sets_its_flush_interval_and_claims_a_local_folder(tmp_path: Path) -> None:
    writer: Any = sink(tmp_path, flush_seconds=2.5)
    assert (writer.flush_seconds, writer.embedded_in) == (2.5, tmp_path)


def test_asof_and_annotations(tmp_path: Path) -> None:
    deliver(
        sink(tmp_path),
        change("I", 1, {"n": 1}, at=10, annotation={"actor": "alice"}),
        change("U", 1, {"n": 2}, at=20),
        change("D", 1, at=30),
    )
    at = "SELECT n FROM orders_asof('2026-01-01 00:00:{}+00')"
    assert [ask(tmp_path, at.format(second)) for second in ("09", "10", "25", "30")] == [[], [(1,)], [(2,)], []]
    [(annotation,)] = ask(tmp_path, "SELECT _annotation FROM orders_changes WHERE _op = 'I'")
    assert json.loads(annotation) == {"actor": "alice"}


def test_two_sources_share_a_lake(tmp_path: Path) -> None:
    changes: Sequence[Change] = [change("I", 1, {"n": 1}, at=1), change("I", 1, {"n": 2}, at=1, source="Other/1")]
    deliver(sink(tmp_path), *changes)
    connection = connect(tmp_path)
    assert connection.sql('SELECT n FROM "main/public".orders').fetchall() == [(1,)]
    assert connection.sql('SELECT n FROM "Other/1/public".orders').fetchall() == [(2,)]
    with pytest.raises(duckdb.Error):
        connection.sql("SELECT * FROM nope")
