"""``cdcctl search`` on an index written by a sink, and a reindex from a real stream."""

import json
from pathlib import Path
from typing import Any

import boto3
import pytest

from cdckit.sink import SinkContext
from cdckit.testing import change, deliver
from consumers.search.sink import open_sink
from tests.acceptance.conftest import run_cdcctl
from tests.support.histories import entry
from tests.support.local_aws import Cloud

pytestmark = pytest.mark.integration
MAPPED = '[consumers.search.mapping."*"]\ntitle = "value"\n'


def write(folder: Path, *changes: Any) -> None:
    sink = open_sink(SinkContext("search", "shard-0", folder / "search"))
    deliver(sink, *changes)
    sink.close()


def run(folder: Path, *arguments: str, **environ: str) -> Any:
    return run_cdcctl("search", *arguments, environ={"CDC_DATA": str(folder), **environ}, folder=folder)


def test_a_query_as_json_and_as_a_table(tmp_path: Path) -> None:
    rows = [{"name": "blue <b>shirt</b> [red]", "status": "new"}, {"name": "blue hat", "status": "sold"}]
    write(tmp_path, *(change("I", n, row, table="public.products", at=n) for n, row in enumerate(rows, 1)))
    done = run(
        tmp_path, "query", "blue AND shirt", "--table", "products", "--facet", "status", "--highlight", "-o", "json"
    )
    answer = json.loads(done.stdout)
    assert done.returncode == 0
    assert answer["total"] == 1
    assert answer["facets"] == {"status": {"new": 1}}
    assert answer["hits"][0]["values"] == {"id": 1, **rows[0]}
    assert "<mark>blue</mark> &lt;b&gt;" in answer["hits"][0]["snippet"]
    shown = run(tmp_path, "query", "blue", "--limit", "1", "--facet", "status", "--highlight")
    assert "1–1 of 2 documents" in shown.stderr
    assert "--offset 1 for more" in shown.stderr
    assert "sold" in shown.stdout
    assert "[red]" in run(tmp_path, "query", "red").stdout


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["query", "blue AND"], 2, "a word is expected"), (["query", "x", "--table", "a.b.c"], 2, "not a table's name"),
        (["stats"], 6, "no search index"), (["reindex"], 6, "no search index"),
        (["reindex", "--from", "someday"], 2, "not a time"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_clear_line(tmp_path: Path, arguments: list[str], status: int, message: str) -> None:
    done = run(tmp_path, *arguments)
    assert done.returncode == status
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_terminal_escapes_in_data_do_not_reach_the_terminal(tmp_path: Path) -> None:
    write(tmp_path, change("I", 1, {"name": "blue \x1b[2J\x1b]0;owned\x07 shirt"}))
    assert "\x1b" not in run(tmp_path, "query", "blue").stdout


def test_stats_count_documents_and_tombstones(tmp_path: Path) -> None:
    write(tmp_path, change("I", 1, {"t": "x"}), change("I", 2, {"t": "y"}, at=2), change("D", 2, at=3))
    found = json.loads(run(tmp_path, "stats", "-o", "json").stdout)
    assert (found["documents"], found["tombstones"], found["tables"]) == (1, 1, {"public.orders": 1})
    assert "1 documents" in run(tmp_path, "stats").stdout


def test_a_reindex_uses_the_mapping_in_the_file(tmp_path: Path) -> None:
    write(tmp_path, change("I", 1, {"value": "blue"}))
    (tmp_path / "cdc.toml").write_text(MAPPED)
    assert json.loads(run(tmp_path, "query", "title:blue", "-o", "json").stdout)["total"] == 0
    done = run(tmp_path, "reindex", "-o", "json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["swapped"] is True
    assert json.loads(run(tmp_path, "query", "title:blue", "-o", "json").stdout)["total"] == 1


def test_a_reindex_from_the_stream(tmp_path: Path, cloud: Cloud, stream: str) -> None:
    history = [entry("I", 1, "blue", 1), entry("I", 2, "red", 2), entry("U", 1, "green", 3), entry("D", 2, "", 4)]
    kinesis = boto3.client("kinesis")
    for change_entry in history:
        kinesis.put_record(StreamName=stream, Data=change_entry.data, PartitionKey=change_entry.partition_key)
    kinesis.put_record(StreamName=stream, Data=b"no change", PartitionKey="x")
    write(tmp_path, history[0].change, change("I", 7, {"value": "older than the stream"}))
    (tmp_path / "cdc.toml").write_text(MAPPED)
    environ = {**cloud.environ, "CDC_STREAM": stream}
    refused = run(tmp_path, "reindex", "--from", "earliest", **environ)
    assert refused.returncode == 6, refused.stderr
    assert "1 rows of search-000001.sqlite are not in the replayed part of the stream" in refused.stderr
    assert json.loads(run(tmp_path, "query", "blue", "-o", "json").stdout)["total"] == 1
    done = run(tmp_path, "reindex", "--from", "earliest", "--force", **environ)
    assert done.returncode == 0, done.stderr
    assert json.loads(run(tmp_path, "query", "title:green", "-o", "json").stdout)["total"] == 1
    assert json.loads(run(tmp_path, "query", "red OR blue OR older", "-o", "json").stdout)["total"] == 0
