"""Reads the SQLite index: ranked search, facets, figures, rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from cdckit.change import Table, Value
from cdckit.errors import UsageError
from cdckit.position import Position
from consumers.search.engine import Hit, IndexStats, SearchPage, SearchRequest
from consumers.search.exact_json import decode
from consumers.search.language import And, Or, Query, Term
from consumers.search.mapping import IndexMapping, highlight_html
from consumers.search.sqlite.generations import current_file, open_current
from consumers.search.sqlite.schema import meta, translated
from consumers.search.sqlite.store import iso_time

_MATCHES = """
FROM fulltext JOIN document d ON d.number = fulltext.rowid JOIN scope s ON s.id = d.scope
WHERE fulltext MATCH :text AND (:tbl IS NULL OR s.tbl = :tbl)
"""
_SEARCH = f"""
SELECT s.source, s.tbl, d.key, coalesce(d.shown, d.cells), d.commit_time, -bm25(fulltext, 4.0, 1.0, 2.0) AS score,
       snippet(fulltext, -1, char(0xfdd0), char(0xfdd1), '…', 12)
{_MATCHES} ORDER BY score DESC, d.number LIMIT :limit OFFSET :offset
"""
_COUNT = f"SELECT count(*) {_MATCHES}"
_FACET = f"""
SELECT coalesce(value, 'null'), count(*) FROM (
  SELECT (SELECT coalesce(d.shown, d.cells) -> e.fullkey FROM json_each(coalesce(d.shown, d.cells)) e
          WHERE e.key = :facet) AS value {_MATCHES}
) GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 50
"""  # noqa: S608 -- put together from constants
_PARTIAL = """
SELECT count(*) FROM document d JOIN scope s ON s.id = d.scope WHERE NOT d.deleted AND d.base = '' AND EXISTS (
  SELECT 1 FROM json_each(s.columns) c WHERE NOT EXISTS (SELECT 1 FROM json_each(d.cells) e WHERE e.key = c.value))
"""
_TABLES = """
SELECT s.tbl, count(*) FROM document d JOIN scope s ON s.id = d.scope WHERE d.visible GROUP BY s.tbl ORDER BY s.tbl
"""


class SqliteReader:
    """Reads the generation that the folder's pointer names. Every call reads the pointer again."""

    def __init__(self, folder: Path) -> None:
        """Open the index. Raises SatelliteError when there is none."""
        self._folder = folder
        self._path, self._connection = open_current(folder)

    @property
    def mapping(self) -> IndexMapping:
        """The mapping with which the generation was created."""
        return IndexMapping.decode(meta(self._current_connection(), "mapping"))

    def search(self, request: SearchRequest) -> SearchPage:
        """Run a search. Raises UsageError when the engine cannot run it."""
        connection = self._current_connection()
        if meta(connection, "mapping").find('"tokenizer":"trigram"') >= 0:
            _check_length(request.query)
        table = None if request.table is None else str(request.table)
        wanted = {"text": fts5(request.query), "tbl": table, "limit": request.limit, "offset": request.offset}
        with translated(self._path):
            [(total,)] = connection.execute(_COUNT, wanted).fetchall()
            rows = connection.execute(_SEARCH, wanted).fetchall()
            facets = {name: _counts(connection.execute(_FACET, {**wanted, "facet": name})) for name in request.facets}
        return SearchPage(total, [_hit(row) for row in rows], facets)

    def stats(self) -> IndexStats:
        """Figures of the index."""
        run = self._current_connection().execute
        with translated(self._path):
            [(documents, filtered, tombstones)] = run(
                "SELECT count(*) FILTER (WHERE visible), count(*) FILTER (WHERE NOT visible AND NOT deleted), "
                "count(*) FILTER (WHERE deleted) FROM document"
            ).fetchall()
            [(partial,)] = run(_PARTIAL).fetchall()
            [(newest,)] = run("SELECT max(newest) FROM scope").fetchall()
            tables = dict(run(_TABLES).fetchall())
        return IndexStats(
            "sqlite",
            self._path.name,
            documents,
            filtered,
            tombstones,
            partial,
            iso_time(newest) if newest else None,
            tables,
        )

    def documents(self, source: str, table: Table) -> Iterator[tuple[str, Mapping[str, Value], Position]]:
        """Every row of one table, including filtered rows, without excluded columns: key text, values, position."""
        query = (
            "SELECT key, cells, position FROM document WHERE NOT deleted "
            "AND scope = (SELECT id FROM scope WHERE source = ? AND tbl = ?)"
        )
        for key, cells, position in self._current_connection().execute(query, (source, str(table))):
            yield key, decode(cells), Position.from_sort_key(position)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _current_connection(self) -> sqlite3.Connection:
        if current_file(self._folder) != self._path:
            self._connection.close()
            self._path, self._connection = open_current(self._folder)
        return self._connection


def fts5(query: Query) -> str:
    """The query in FTS5's syntax. Every word is a quoted string, so that none is parsed as syntax."""
    if isinstance(query, Term):
        quoted = '"' + query.text.replace('"', '""') + '"'
        return f"{f'{query.field} : ' if query.field else ''}{quoted}{' *' if query.prefix else ''}"
    if isinstance(query, And):
        return "(" + " AND ".join(map(fts5, query.parts)) + ")"
    if isinstance(query, Or):
        return "(" + " OR ".join(map(fts5, query.parts)) + ")"
    return f"({fts5(query.wanted)} NOT {fts5(query.unwanted)})"


def _check_length(query: Query) -> None:
    if isinstance(query, Term):
        if len(query.text) < 3:
            raise UsageError(
                f"invalid query: {query.text!r} has less than three characters",
                'with tokenizer = "trigram" words and phrases need at least three',
            )
    else:
        for part in query.parts if isinstance(query, And | Or) else (query.wanted, query.unwanted):
            _check_length(part)


def _hit(row: Sequence[Any]) -> Hit:
    source, table, key, cells, commit_time, score, snippet = row
    return Hit(source, table, key, decode(cells), iso_time(commit_time), score, highlight_html(snippet))


def _counts(rows: sqlite3.Cursor) -> Mapping[str, int]:
    return {_plain(value): count for value, count in rows}


def _plain(value: str) -> str:
    return str(msgspec.json.decode(value)) if value.startswith('"') else value
