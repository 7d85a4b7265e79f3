"""Reindexing while consumers write and applications read, on the embedded engine."""

import multiprocessing
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cdckit.change import Table
from cdckit.errors import SatelliteError, UsageError
from cdckit.sink import SinkContext
from cdckit.testing import change, deliver
from consumers.search.mapping import IndexMapping, Rule
from consumers.search.query import documents, open_index, request, search, stats
from consumers.search.reindex import reindex
from consumers.search.sink import SearchSink, open_sink
from consumers.search.sqlite import generations
from consumers.search.sqlite.generations import SqliteGenerations
from consumers.search.sqlite.store import SqliteIndexStore
from tests.support.sinks import closed_at_end

TITLED = IndexMapping(mapping={"*": Rule(title=["title"])})


def opened(folder: Path, options: Mapping[str, Any] | None = None) -> SearchSink:
    sink = open_sink(SinkContext("search", "shard-0", folder, options or {}))
    assert isinstance(sink, SearchSink)
    return closed_at_end(sink)


def keys(folder: Path, text: str) -> list[str]:
    return sorted(hit.key for hit in search(folder, text, limit=1000))


def everything(folder: Path) -> list[Any]:
    return sorted(
        (key, dict(values), position) for key, values, position in documents(folder, "main", Table("public", "orders"))
    )


class Interfering(SqliteGenerations):
    """A reindex during which something else happens at a chosen step."""

    def __init__(self, folder: Path, step: str, act: Any) -> None:
        super().__init__(folder)
        self._step, self._act = step, act

    def rows(self, generation: str, since: float = 0.0) -> Iterator[Any]:
        yield from super().rows(generation, since)
        self._at("copied" if since == 0.0 else "added")

    def switch_writers(self, generation: str) -> None:
        super().switch_writers(generation)
        self._at("switched")

    def _at(self, step: str) -> None:
        if step == self._step:
            self._act()


def test_the_new_index_has_the_new_mapping_and_all_rows(tmp_path: Path) -> None:
    sink = opened(tmp_path)
    deliver(
        sink,
        change("I", 1, {"title": "a", "body": "long"}),
        change("U", 1, {"title": "b"}, at=2),
        change("I", 2, {"title": "gone"}, at=3),
        change("D", 2, at=4),
    )
    before = everything(tmp_path)
    done = reindex(SqliteGenerations(tmp_path), TITLED, tmp_path)
    assert (done.swapped, done.rows, done.generation) == (True, 2, "search-000002.sqlite")
    assert keys(tmp_path, "title:b AND body:long") == ["[1]"]
    assert everything(tmp_path) == before
    assert stats(tmp_path).tombstones == 1
    assert [path.name for path in tmp_path.glob("*.sqlite")] == ["search-000002.sqlite"]


def test_writers_and_readers_follow_without_reopening(tmp_path: Path) -> None:
    sink = opened(tmp_path)
    deliver(sink, change("I", 1, {"title": "one"}))
    with closing(open_index(tmp_path)) as index:
        for at in (2, 3):  # twice: the writer misses one of them
            reindex(SqliteGenerations(tmp_path), TITLED, tmp_path)
            reindex(SqliteGenerations(tmp_path), TITLED, tmp_path)
            deliver(sink, change("I", at, {"title": "two"}, at=at))
            assert index.search(request("title:two")).total == at - 1
    assert keys(tmp_path, "title:one OR title:two") == ["[1]", "[2]", "[3]"]
    assert sink.mapping == TITLED


@pytest.mark.parametrize("step", ["copied", "switched", "added"])
def test_what_is_written_meanwhile_is_in_the_new_index(tmp_path: Path, step: str) -> None:
    sink = opened(tmp_path)
    deliver(
        sink,
        change("I", 1, {"title": "a", "body": "x"}),
        change("I", 2, {"title": "a"}),
        change("I", 3, {"title": "a"}),
    )

    def meanwhile() -> None:
        deliver(
            sink,
            change("U", 1, {"title": "b"}, at=5),
            change("D", 2, at=6),
            change("I", 4, {"title": "c"}, at=7),
            change("T", at=8, table="public.other"),
        )

    reindex(Interfering(tmp_path, step, meanwhile), TITLED, tmp_path)
    assert keys(tmp_path, "title:b AND body:x") == ["[1]"]
    assert [key for key, _, _ in everything(tmp_path)] == ["[1]", "[3]", "[4]"]
    late = deliver(
        sink, change("U", 2, {"title": "late"}, at=5), change("I", 9, {"t": "x"}, at=7, table="public.other")
    )
    assert late.superseded == 2


def test_a_truncate_meanwhile_is_in_the_new_index(tmp_path: Path) -> None:
    sink = opened(tmp_path)
    deliver(sink, change("I", 1, {"title": "a"}))
    reindex(Interfering(tmp_path, "copied", lambda: deliver(sink, change("T", at=5))), TITLED, tmp_path)
    assert everything(tmp_path) == []


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("step", ["copied", "switched", "added"])
def test_an_interrupted_reindex_loses_nothing_and_is_continued(tmp_path: Path, step: str) -> None:
    sink = opened(tmp_path)
    deliver(sink, change("I", 1, {"title": "a"}))

    def interrupt() -> None:
        deliver(sink, change("I", 2, {"title": "b"}, at=2))
        raise Interrupted

    with pytest.raises(Interrupted):
        reindex(Interfering(tmp_path, step, interrupt), TITLED, tmp_path)
    assert keys(tmp_path, "a") == ["[1]"]
    deliver(sink, change("I", 3, {"title": "c"}, at=3))
    assert reindex(SqliteGenerations(tmp_path), TITLED, tmp_path).swapped
    assert keys(tmp_path, "title:a OR title:b OR title:c") == ["[1]", "[2]", "[3]"]


def _write(folder: Path, first: int) -> None:
    sink = opened(folder)
    for number in range(first, first + 150):
        assert deliver(sink, change("I", number, {"title": f"n{number}"}, at=number)).applied == 1
    sink.close()


def test_several_processes_write_during_reindexes(tmp_path: Path) -> None:
    opened(tmp_path).close()
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=_write, args=(tmp_path, first)) for first in (1, 1001)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert reindex(SqliteGenerations(tmp_path), TITLED, tmp_path).swapped
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert stats(tmp_path).documents == 300
    assert stats(tmp_path).tables == {"public.orders": 300}


def test_a_generation_that_is_removed_while_it_is_opened_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(tmp_path).close()
    whole = SqliteIndexStore

    def removed(_path: Path) -> SqliteIndexStore:
        monkeypatch.setattr(generations, "SqliteIndexStore", whole)
        assert reindex(SqliteGenerations(tmp_path), TITLED, tmp_path).swapped
        raise SatelliteError("disk I/O error")  # what SQLite says then

    monkeypatch.setattr(generations, "SqliteIndexStore", removed)
    assert opened(tmp_path).mapping == TITLED


def test_a_column_that_the_index_does_not_store_needs_the_stream(tmp_path: Path) -> None:
    sink = opened(tmp_path, {"mapping": {"*": {"exclude": ["body"]}}})
    deliver(sink, change("I", 1, {"title": "a", "body": "b"}))
    with pytest.raises(UsageError, match="column body") as raised:
        reindex(SqliteGenerations(tmp_path), TITLED, tmp_path)
    assert "--from earliest" in raised.value.hint


@pytest.mark.parametrize(
    ("before", "after", "possible"),
    [
        ([], ["public.a"], True), (["public.a"], [], False), (["public.a", "public.b"], ["public.b"], True),
        (["public.a"], ["public.b"], False),
    ],
)  # fmt: skip
def test_more_tables_need_the_stream(tmp_path: Path, before: list[str], after: list[str], possible: bool) -> None:
    deliver(opened(tmp_path, {"table": before}), change("I", 1, {"t": "x"}, table="public.a"))
    if possible:
        assert reindex(SqliteGenerations(tmp_path), IndexMapping(table=after), tmp_path).swapped
        assert stats(tmp_path).documents == (1 if "public.a" in after else 0)
    else:
        with pytest.raises(UsageError, match="tables that it left out"):
            reindex(SqliteGenerations(tmp_path), IndexMapping(table=after), tmp_path)


def test_two_reindexes_at_once_are_refused(tmp_path: Path) -> None:
    opened(tmp_path).close()

    def second() -> None:
        with pytest.raises(SatelliteError, match="another reindex"):
            reindex(SqliteGenerations(tmp_path), TITLED, tmp_path)

    assert reindex(Interfering(tmp_path, "copied", second), TITLED, tmp_path).swapped


def test_a_reindex_without_an_index_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SatelliteError, match="no search index"):
        reindex(SqliteGenerations(tmp_path), TITLED, tmp_path)
