"""Questions to the search index: ranked full-text search, what it holds, every document as it is."""

from __future__ import annotations

import html
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cdckit.change import Table, Value
from cdckit.errors import UsageError
from cdckit.position import Position
from consumers.search.store import Store, document_values, translated

_OPEN, _CLOSE = "\x02", "\x03"  # stand for <mark> until the text around them is escaped
_SEARCH = """
SELECT d.source, d.tbl, d.key, d.cells, d.commit_time, bm25(body),
       snippet(body, 0, char(2), char(3), '…', 12)
FROM body JOIN document d ON d.number = body.rowid
WHERE body MATCH :text AND (:tbl IS NULL OR d.tbl = :tbl)
ORDER BY bm25(body), d.number LIMIT :limit OFFSET :offset
"""
_LACKS = """
SELECT count(*) FROM document d WHERE NOT d.deleted AND d.base = '' AND EXISTS (
  SELECT 1 FROM col c WHERE c.source = d.source AND c.tbl = d.tbl
  AND NOT EXISTS (SELECT 1 FROM json_each(d.cells) e WHERE e.key = c.name))
"""


@dataclass(frozen=True, slots=True)
class Hit:
    """One document found. `snippet` is HTML-safe, the words found in ``<mark>``; a lower `rank` is better."""

    source: str
    table: str
    key: str
    values: Mapping[str, Value]
    commit_time: str
    rank: float
    snippet: str


@dataclass(frozen=True, slots=True)
class Stats:
    """What the index holds. `partial` documents lack columns, for the change that carried them was never seen."""

    documents: int
    tombstones: int
    partial: int
    newest_commit: str | None
    tables: Mapping[str, int]


def search(folder: Path, text: str, *, table: str | None = None, limit: int = 10, offset: int = 0) -> list[Hit]:
    """Documents that match a query in FTS5's syntax (``blue OR red``, ``"blue shirt"``, ``shi*``), best first.

    Raises UsageError when the text is no query, SatelliteError when there is no index.
    """
    wanted = None if table is None else _table_name(table)
    arguments = {"text": text, "tbl": wanted, "limit": limit, "offset": offset}
    with _opened(folder) as store:
        try:
            rows = store.connection.execute(_SEARCH, arguments).fetchall()
        except sqlite3.OperationalError as error:
            raise UsageError(
                f"not a query: {text!r} ({error})", "words, AND/OR/NOT, prefix*; put what is no word in double quotes"
            ) from error
    return [
        Hit(source, tbl, key, document_values(cells), moment, rank, _marked(found))
        for source, tbl, key, cells, moment, rank, found in rows
    ]


def stats(folder: Path) -> Stats:
    """What the index holds. Raises SatelliteError when there is none."""
    with _opened(folder) as store:
        run = store.connection.execute
        [(documents, tombstones, newest)] = run(
            "SELECT count(*) FILTER (WHERE NOT deleted), count(*) FILTER (WHERE deleted), max(commit_time) "
            "FROM document"
        ).fetchall()
        [(partial,)] = run(_LACKS).fetchall()
        tables = dict(run("SELECT tbl, count(*) FROM document WHERE NOT deleted GROUP BY tbl ORDER BY tbl").fetchall())
    return Stats(documents, tombstones, partial, newest, tables)


def documents(folder: Path, source: str, table: Table) -> Iterator[tuple[str, Mapping[str, Value], Position]]:
    """Every live document of one table: key text, columns, position. Raises SatelliteError when missing."""
    query = "SELECT key, cells, position FROM document WHERE source = ? AND tbl = ? AND NOT deleted"
    with _opened(folder) as store:
        for key, cells, position in store.connection.execute(query, (source, str(table))):
            yield key, document_values(cells), Position.from_sort_key(position)


class _opened:  # noqa: N801 -- used as a function
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> Store:
        with translated(self._folder):
            self._store = Store(self._folder, create=False)
        return self._store

    def __exit__(self, *failure: object) -> None:
        self._store.close()


def _table_name(text: str) -> str:
    try:
        return str(Table.parse(text))
    except ValueError as error:
        raise UsageError(str(error), "cdcctl search stats lists the tables") from error


def _marked(snippet: str) -> str:
    return html.escape(snippet).replace(_OPEN, "<mark>").replace(_CLOSE, "</mark>")
