"""The search index for applications and commands: open it, ask it; which engine is behind it is a setting.

    from pathlib import Path
    from consumers.search.query import open_index, request

    with closing(open_index(Path(".cdc/search"))) as index:
        page = index.search(request("blue AND shirt", table="products", facets=["status"]))
        for hit in page.hits: print(hit.key, hit.values["name"], hit.snippet)

An index that stays open follows a reindex by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from cdckit.change import Table, Value
from cdckit.errors import UsageError
from cdckit.position import Position
from consumers.search import options as settings
from consumers.search.engine import Generations, Hit, IndexReader, IndexStats, SearchRequest
from consumers.search.language import parse
from consumers.search.sqlite.generations import SqliteGenerations
from consumers.search.sqlite.reader import SqliteReader

NO_OPTIONS: Mapping[str, object] = {}


def open_index(folder: Path, options: Mapping[str, object] = NO_OPTIONS) -> IndexReader:
    """Open the index: `folder` is the satellite's (``.cdc/search``), `options` the table ``[consumers.search]``.

    Raises SatelliteError when there is none, UsageError when the options cannot be used.
    """
    found = settings.read_options(options)
    if found.engine == "sqlite":
        return SqliteReader(folder)
    from consumers.search.opensearch.reader import OpenSearchReader  # noqa: PLC0415 -- its client costs 100 ms to import

    reader: IndexReader = OpenSearchReader(found)
    return reader


def open_generations(folder: Path, options: settings.SearchOptions) -> Generations:
    """The indexes side by side, for a reindex."""
    if options.engine == "sqlite":
        return SqliteGenerations(folder)
    from consumers.search.opensearch.generations import OpenSearchGenerations  # noqa: PLC0415 -- slow to import

    made: Generations = OpenSearchGenerations(options)
    return made


def request(
    text: str, *, table: str | None = None, limit: int = 10, offset: int = 0, facets: Sequence[str] = ()
) -> SearchRequest:
    """A question in the query language (``blue OR red``, ``"blue shirt"``, ``shi*``, ``title:blue``).

    Raises UsageError that says what is wrong with the text and where.
    """
    return SearchRequest(parse(text), None if table is None else table_name(table), limit, offset, facets)


def search(folder: Path, text: str, *, table: str | None = None, limit: int = 10, offset: int = 0) -> Sequence[Hit]:
    """One page of documents of an embedded index, best first: `open_index` and `request` in one step."""
    with closing(open_index(folder)) as index:
        return index.search(request(text, table=table, limit=limit, offset=offset)).hits


def stats(folder: Path, options: Mapping[str, object] = NO_OPTIONS) -> IndexStats:
    """What the index holds. Raises SatelliteError when there is none."""
    with closing(open_index(folder, options)) as index:
        return index.stats()


def documents(
    folder: Path, source: str, table: Table, options: Mapping[str, object] = NO_OPTIONS
) -> Iterator[tuple[str, Mapping[str, Value], Position]]:
    """Every row of one table as the index keeps it: key text, columns, position.

    Rows that a filter hides from searches are among them, excluded columns are not. Raises SatelliteError when missing.
    """
    with closing(open_index(folder, options)) as index:
        yield from index.documents(source, table)


def table_name(text: str) -> Table:
    """A table by its name. Raises UsageError."""
    try:
        return Table.parse(text)
    except ValueError as error:
        raise UsageError(str(error), "cdcctl search stats lists the tables") from error
