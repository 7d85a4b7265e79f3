"""The search index: any order of delivery, durability, several writers, hostile text."""

import itertools
import multiprocessing
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdckit.change import Change, Op, Table, Value
from cdckit.errors import SatelliteError, UsageError
from cdckit.rows import RowState, join, merge
from cdckit.sink import Outcome, SinkContext
from cdckit.testing import batch, change, deliver
from consumers.search.engine import IndexReader
from consumers.search.query import documents, open_index, request, search, stats
from consumers.search.sink import SearchSink, open_sink
from consumers.search.sqlite.background_commits import BackgroundCommits
from tests.support.scale import scale
from tests.support.search_histories import HOSTILE, Step, batches, histories
from tests.support.sinks import closed_at_end

ORDERS = Table("public", "orders")


def opened(folder: Path, shard: str = "shardId-000000000000") -> SearchSink:
    sink = open_sink(SinkContext("search", shard, folder))
    assert isinstance(sink, SearchSink)
    return closed_at_end(sink)


def rows(folder: Path) -> dict[str, Mapping[str, Value]]:
    return {key: values for key, values, _ in documents(folder, "main", ORDERS)}


Found = dict[str, tuple[Mapping[str, Value], str]]


def indexed(index: IndexReader, source: str, word: str) -> Found:
    """What a search for the word finds of one source: columns and snippet by key."""
    hits = index.search(request(word, limit=100)).hits
    return {hit.key: (hit.values, hit.snippet) for hit in hits if hit.source == source}


@pytest.mark.parametrize(
    "_run", range(scale(1, 40))
)  # one store per run: a store slows down with the number of its sources
def test_any_order_with_duplicates_converges(tmp_path: Path, _run: int) -> None:
    sink, numbers = opened(tmp_path), itertools.count(1)

    with closing(open_index(tmp_path)) as index:

        @settings(max_examples=250, deadline=None)
        @given(steps=histories(), data=st.data())
        def converges(steps: list[Step], data: st.DataObject) -> None:
            number = next(numbers)
            word, straight, scrambled = f"w{number}", f"straight{number}", f"scrambled{number}"
            if steps:
                deliver(sink, *(step.change(straight, word) for step in steps))
            for part in batches(data, steps):
                outcome = deliver(sink, *(step.change(scrambled, word) for step in part))
                assert outcome.applied + outcome.superseded == len(part)
            rows = {key: values for key, values, _ in index.documents(straight, ORDERS)}
            assert {key: values for key, values, _ in index.documents(scrambled, ORDERS)} == rows
            found = indexed(index, straight, word)
            assert indexed(index, scrambled, word) == found
            assert {key: values for key, (values, _) in found.items()} == rows

        converges()
        assert index.stats().partial == 0
    sink.close()


@settings(max_examples=scale(300, 3_000), deadline=None)
@given(steps=histories(), data=st.data())
def test_the_states_of_a_row_in_two_indexes_can_be_joined(steps: list[Step], data: st.DataObject) -> None:
    changes = [step.change("main", "w") for step in steps if step.key == 1]
    sides = data.draw(st.lists(st.sampled_from(("one", "other", "both")), min_size=len(changes), max_size=len(changes)))
    one = state([item for item, side in zip(changes, sides, strict=True) if side != "other"])
    other = state([item for item, side in zip(changes, sides, strict=True) if side != "one"])
    known = one if other is None else other if one is None else join(one, other)
    assert known == state(changes)
    if one is not None and other is not None:
        assert join(other, one) == known


def state(changes: Sequence[Change]) -> RowState | None:
    document: RowState | None = None
    for item in changes:
        document = merge(document, item) or document
    return document


def test_a_late_update_does_not_resurrect(tmp_path: Path) -> None:
    sink = opened(tmp_path)
    outcome = deliver(sink, change("D", 1, at=3), change("U", 1, {"title": "late"}, at=2))
    assert outcome == Outcome(applied=1, superseded=1)
    assert rows(tmp_path) == {}
    assert search(tmp_path, "late") == []


def test_unchanged_toast_keeps_its_text_in_the_index(tmp_path: Path) -> None:
    sink = opened(tmp_path)
    deliver(sink, change("I", 1, {"title": "a", "body": "encyclopaedia"}), change("U", 1, {"title": "b"}, at=2))
    assert [hit.key for hit in search(tmp_path, "encyclopaedia AND b")] == ["[1]"]


def test_a_document_whose_base_is_missing_is_counted_as_partial(tmp_path: Path) -> None:
    sink = opened(tmp_path)
    deliver(sink, change("I", 2, {"title": "a", "body": "x"}), change("U", 1, {"title": "b"}, at=2))
    assert stats(tmp_path).partial == 1
    deliver(sink, change("I", 1, {"title": "a", "body": "y"}, at=1, index=1))
    assert stats(tmp_path).partial == 0
    assert rows(tmp_path)["[1]"] == {"id": 1, "title": "b", "body": "y"}


def test_what_is_flushed_outlives_the_process_without_close(tmp_path: Path) -> None:
    sink = opened(tmp_path)
    for number in (1, 2):
        sink.apply(batch(change("I", number, {"title": "kept"}, at=number)))
    assert sink.flush() == Outcome(2, 0)
    assert len(search(tmp_path, "kept")) == 2


def test_a_failed_commit_is_raised_at_every_later_call(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("CREATE TABLE row (id INTEGER PRIMARY KEY, other REFERENCES row DEFERRABLE INITIALLY DEFERRED)")
    commits = BackgroundCommits(connection, path)
    with commits.transaction():
        connection.execute("INSERT INTO row VALUES (1, 1)")
    commits.wait()
    with commits.transaction():
        connection.execute("INSERT INTO row VALUES (2, 3)")  # only the commit sees that there is no 3
    for _ in range(2):
        with pytest.raises(SatelliteError, match="constraint failed"):
            commits.wait()
        with pytest.raises(SatelliteError, match="constraint failed"), commits.transaction():
            pytest.fail("a batch is missing: no other batch may follow it")
    commits.close()
    with closing(sqlite3.connect(path)) as again:
        assert again.execute("SELECT id FROM row").fetchall() == [(1,)]


def _write(folder: Path, first: int) -> None:
    sink = opened(folder, f"shard-{first}")
    for number in range(first, first + 100):
        assert deliver(sink, change("I", number, {"title": f"n{number}"}, at=number)).applied == 1
    sink.close()


def test_several_processes_write_at_once(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=_write, args=(tmp_path, first)) for first in (1, 1001, 2001)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    assert stats(tmp_path).documents == 300


@pytest.mark.parametrize(
    "text", ["", '"', "AND", "a AND", "(", "a)", "NEAR(", "*", "NOT a", "title:(a)", "!!!", 'a "b', "OR b"]
)
def test_an_invalid_query_is_a_clear_error(tmp_path: Path, text: str) -> None:
    deliver(opened(tmp_path), change("I", 1, {"title": "a"}))
    with pytest.raises(UsageError, match="invalid query") as raised:
        search(tmp_path, text)
    assert raised.value.hint


@settings(max_examples=scale(25, 500), deadline=None)
@given(texts=st.lists(st.text(max_size=60), min_size=1, max_size=5))
def test_hostile_text_is_stored_unchanged(texts: Sequence[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("hostile")
    texts = [text.encode("utf-8", "replace").decode() for text in texts]
    sink = opened(folder)
    deliver(sink, *(change("I", number, {"title": text}, at=number) for number, text in enumerate(texts, 1)))
    sink.close()
    assert [row["title"] for _, row in sorted(rows(folder).items())] == texts


def test_hostile_texts_are_found_and_shown_safely(tmp_path: Path) -> None:
    sink = opened(tmp_path)
    texts = [change("I", n, {"title": f"common {text}"}, at=n) for n, text in enumerate(HOSTILE, 1)]
    deliver(sink, *texts)
    assert {key: row["title"] for key, row in rows(tmp_path).items()} == {
        f"[{n}]": f"common {text}" for n, text in enumerate(HOSTILE, 1)
    }
    hits = search(tmp_path, "common", limit=100)
    assert len(hits) == len(HOSTILE)
    for hit in hits:
        assert "<" not in hit.snippet.replace("<mark>", "").replace("</mark>", "")
        assert hit.snippet.count("<mark>") == hit.snippet.count("</mark>") == 1
    assert sorted(hit.key for hit in search(tmp_path, "alert")) == ["[6]", "[7]"]
    deliver(sink, *(change("D", n, at=n + 100) for n in range(1, len(HOSTILE) + 1)))
    assert search(tmp_path, "common") == []


def test_html_in_a_highlight_is_escaped(tmp_path: Path) -> None:
    deliver(opened(tmp_path), change("I", 1, {"title": "<script>alert(1)</script> blue"}))
    [hit] = search(tmp_path, "blue")
    assert "<script>" not in hit.snippet
    assert "<mark>blue</mark>" in hit.snippet


def test_paging_goes_through_all_hits_once(tmp_path: Path) -> None:
    deliver(opened(tmp_path), *(change("I", number, {"title": "same"}, at=number) for number in range(1, 8)))
    pages = [hit.key for offset in range(0, 9, 3) for hit in search(tmp_path, "same", limit=3, offset=offset)]
    assert sorted(pages) == sorted(f"[{number}]" for number in range(1, 8))


def test_a_search_of_one_table(tmp_path: Path) -> None:
    deliver(opened(tmp_path), change("I", 1, {"t": "x"}), change("I", 1, {"t": "x"}, table="public.other", at=2))
    assert [hit.table for hit in search(tmp_path, "x", table="other")] == ["public.other"]


def test_the_error_for_a_missing_index_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(SatelliteError, match="no search index") as raised:
        search(tmp_path, "x")
    assert "cdcctl consumer run search" in raised.value.hint


def test_the_error_for_a_damaged_file_names_it(tmp_path: Path) -> None:
    opened(tmp_path).close()
    (tmp_path / "search-000001.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(SatelliteError, match=r"search-000001\.sqlite"):
        opened(tmp_path)


def test_an_index_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    opened(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / "search-000001.sqlite")) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(SatelliteError, match="newer version"):
        opened(tmp_path)


def test_a_truncate_that_is_delivered_twice_is_one_change(tmp_path: Path) -> None:
    sink = opened(tmp_path)
    assert deliver(sink, change("T", at=2), change("T", at=2)) == Outcome(applied=1, superseded=1)
    assert change("T", at=2).op is Op.TRUNCATE
