"""`cdcctl parquet` and the Python API as a user calls them: results on stdout, clear errors, exit codes."""

import csv
import importlib.util
import io
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from cdcctl.main import build
from cdckit.errors import UsageError
from cdckit.sink import SinkContext
from cdckit.testing import change, deliver
from consumers.parquet import frames
from consumers.parquet.sink import open_sink

ORDERS = [
    change("I", 1, {"status": "new", "total": None}, at=1),
    change("I", 2, {"status": "new, old", "total": None}, at=2),
    change("U", 1, {"status": "paid", "total": None}, at=3, annotation={"actor": "al"}),
    change("D", 2, at=86_400 * 2),
    change("I", 1, {"x": 1}, at=4, table='"od/d"."T"'),
]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CDC_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    sink = open_sink(SinkContext("parquet", "shardId-000000000000", tmp_path / "parquet", {"compact": False}))
    for item in ORDERS:
        deliver(sink, item)
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        build()(["parquet", *arguments], prog_name="cdcctl")
    shown = capsys.readouterr()
    return int(ended.value.code or 0), shown.out, shown.err


def test_query_in_every_format(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sql = "SELECT id, status, total FROM orders_asof('2026-01-02') ORDER BY id"
    code, out, _ = run(capsys, "query", sql, "-o", "json")
    assert (code, json.loads(out)) == (0, [
        {"id": 1, "status": "paid", "total": None}, {"id": 2, "status": "new, old", "total": None},
    ])  # fmt: skip
    code, out, _ = run(capsys, "query", sql, "-o", "csv")
    assert list(csv.reader(io.StringIO(out))) == [["id", "status", "total"], ["1", "paid", ""], ["2", "new, old", ""]]
    code, out, _ = run(capsys, "query", sql)
    assert (code, out.split()[:3]) == (0, ["id", "status", "total"])
    code, out, _ = run(capsys, "query", "SELECT * FROM orders_changes WHERE _commit_date = '2026-01-01'", "--explain")
    assert (code, "Scanning Files: 3/4" in out) == (0, True)


def test_ls_stats_schema_compact(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "ls", "-o", "json")
    assert [(row["table"], row["changes"], row["files"]) for row in json.loads(out)] == [
        ('"od/d"."T"', 1, 1), ("public.orders", 4, 4),
    ]  # fmt: skip
    _, out, _ = run(capsys, "schema", "orders", "-o", "json")
    assert [(row["column"], row["postgresql"], row["sql"]) for row in json.loads(out)] == [
        ("id", "bigint", "BIGINT"), ("status", "text", "VARCHAR"), ("total", "text", "VARCHAR"),
    ]  # fmt: skip
    _, out, _ = run(capsys, "compact", "orders", "-o", "json")
    [done] = json.loads(out)
    assert (done["files_before"], done["files_after"], done["expired"]) == (4, 2, 0)
    _, out, _ = run(capsys, "stats", "orders", "-o", "json")
    [stats] = json.loads(out)
    assert (stats["files"], stats["partitions"], stats["partition_by"]) == (2, 2, "_commit_date")
    assert (stats["oldest_commit"], stats["due"]) == ("2026-01-01T00:00:01.000+00:00", False)
    code, out, _ = run(capsys, "stats")
    assert (code, "orders" in out) == (0, True)


@pytest.mark.parametrize(("name", "rows"), [("o.parquet", 1), ("o.csv", 1), ("o.json", 1)])
def test_export(data: Path, capsys: pytest.CaptureFixture[str], name: str, rows: int) -> None:
    code, out, err = run(capsys, "export", "orders", name)
    assert (code, out, err.startswith("1 rows written")) == (0, "", True)
    if name.endswith("parquet"):
        assert pq.read_table(data / name).to_pylist() == [{"id": 1, "status": "paid", "total": None}]
    code, _, err = run(capsys, "export", "orders", name)
    assert (code, "--force" in err) == (2, True)
    code, _, err = run(capsys, "export", "orders", name, "--force", "--changes")
    assert (code, err.startswith("4 rows written")) == (0, True)
    assert [path.name for path in data.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["query", "SELECT nope FROM orders"], 2, ["nope", "cdcctl parquet schema"]),
        (["query", "SELECT * FROM nope"], 2, ["nope", "cdcctl parquet ls"]),
        (["query", "SELEC"], 2, ["SELEC", "DuckDB"]),
        (["query", "SELECT * FROM orders_asof('yesterday')"], 2, ["yesterday"]),
        (["schema", "nope"], 2, ["public.nope", "cdcctl parquet ls"]),
        (["schema", "a.b.c"], 2, ["a.b.c"]),
        (["compact", "--target-mb", "0"], 2, ["--target-mb"]),
        (["compact", "--retention-hours", "0"], 2, ["--retention-hours"]),
        (["compact", "orders", "--sort-by", "nope"], 2, ["nope", "cdcctl parquet schema"]),
        (["export", "orders", "o.xlsx"], 2, [".parquet"]),
        (["export", "orders", "no/such/o.csv"], 2, ["no/such"]),
        (["export", "orders", "o.csv", "--changes", "--asof", "2026-01-01"], 2, ["exclude"]),
        (["export", "orders", "o.csv", "--asof", "soon"], 2, ["soon"]),
        (["ls", "--data", "/nonexistent"], 6, ["/nonexistent/parquet", "cdcctl consumer run parquet"]),
    ],
)
def test_a_mistake_is_a_clear_error(
    data: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, words: list[str]
) -> None:
    got, out, err = run(capsys, *arguments)
    assert (got, out) == (code, "")
    assert "Traceback" not in err
    for word in words:
        assert word in err.replace("\n", " ")


def test_an_invalid_setting_is_named(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data / "cdc.toml").write_text("[consumers.parquet]\nflush_seconds = -1\n")
    code, _, err = run(capsys, "ls")
    assert (code, "flush_seconds" in err) == (2, True)


def test_frames(data: Path) -> None:
    table = frames.arrow(data / "parquet", "SELECT id, status FROM orders")
    assert table.to_pylist() == [{"id": 1, "status": "paid"}]
    with pytest.raises(UsageError):
        frames.arrow(data / "parquet", "SELECT * FROM nope")
    for name, make in (("polars", frames.polars), ("pandas", frames.pandas)):
        if importlib.util.find_spec(name) is None:
            with pytest.raises(UsageError, match=f"{name} is not installed"):
                make(data / "parquet", "SELECT 1")
        else:
            frame: Any = make(data / "parquet", "SELECT id FROM orders")
            assert list(frame["id"]) == [1]
