"""The search index from Python: open it, search it, list its documents. The engine is a setting.

    from contextlib import closing
    from pathlib import Path
    from consumers.search.query import open_index, request

    with closing(open_index(Path(".cdc/search"))) as index:
        page = index.search(request("blue AND shirt", table="products", facets=["status"]))
        for hit in page.hits:
            print(hit.key, hit.values["name"], hit.snippet)

An open index follows every change, and a reindex. Use one index object in one thread.
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
    """Open the index for reading.

    Args:
        folder: The satellite's folder (``DATA/search``); not used with OpenSearch.
        options: The settings ``[consumers.search]``; empty for the embedded engine.

    Returns:
        A reader with `search`, `stats`, `documents`, `mapping` and `close`. It follows a reindex.

    Raises:
        SatelliteError: There is no index, or it cannot be read.
        UsageError: The options are not valid.

    Example:
        >>> from contextlib import closing
        >>> from consumers.search.query import open_index, request
        >>> with closing(open_index(Path(".cdc/search"))) as index:
        ...     page = index.search(request("blue", facets=["status"]))
        >>> page.total, page.facets
        (2, {'status': {'new': 1, 'sold': 1}})

    """
    found = settings.read_options(options)
    if found.engine == "sqlite":
        return SqliteReader(folder)
    from consumers.search.opensearch.reader import OpenSearchReader  # noqa: PLC0415 -- its client costs 100 ms to import

    reader: IndexReader = OpenSearchReader(found)
    return reader


def open_generations(folder: Path, options: settings.SearchOptions) -> Generations:
    """Open all generations of the index, for a reindex."""
    if options.engine == "sqlite":
        return SqliteGenerations(folder)
    from consumers.search.opensearch.generations import OpenSearchGenerations  # noqa: PLC0415 -- slow to import

    made: Generations = OpenSearchGenerations(options)
    return made


def request(
    text: str, *, table: str | None = None, limit: int = 10, offset: int = 0, facets: Sequence[str] = ()
) -> SearchRequest:
    """Build a search request from a query text.

    Args:
        text: The query, such as ``blue OR red``, ``"blue shirt"``, ``shi*``, ``title:blue``.
        table: Search only this table (``orders``, ``public.orders``); None: all.
        limit: The largest number of hits on the page.
        offset: The number of hits to skip.
        facets: Columns whose values are counted over all matching documents.

    Returns:
        The request, for `IndexReader.search`.

    Raises:
        UsageError: The text is not a query, or the table's name is not valid; the message says where and why.

    Example:
        >>> from consumers.search.query import request
        >>> request("title:blue", limit=20).query
        Term(text='blue', prefix=False, field='title')

    """
    return SearchRequest(parse(text), None if table is None else table_name(table), limit, offset, facets)


def search(folder: Path, text: str, *, table: str | None = None, limit: int = 10, offset: int = 0) -> Sequence[Hit]:
    """Search the embedded index once: `open_index` and `request` in one call.

    Args:
        folder: The satellite's folder (``DATA/search``).
        text: The query.
        table: Search only this table; None: all.
        limit: The largest number of hits.
        offset: The number of hits to skip.

    Returns:
        The hits, best first.

    Raises:
        SatelliteError: There is no index in `folder`, or it cannot be read.
        UsageError: The text is not a query.

    Example:
        >>> from consumers.search.query import search
        >>> [(hit.key, hit.snippet.splitlines()[1]) for hit in search(Path(".cdc/search"), "blue shirt")]
        [('[1]', '<mark>blue</mark> <mark>shirt</mark>')]

    """
    with closing(open_index(folder)) as index:
        return index.search(request(text, table=table, limit=limit, offset=offset)).hits


def stats(folder: Path, options: Mapping[str, object] = NO_OPTIONS) -> IndexStats:
    """Report figures of the index.

    Args:
        folder: The satellite's folder (``DATA/search``); not used with OpenSearch.
        options: The settings ``[consumers.search]``; empty for the embedded engine.

    Returns:
        The numbers of documents, filtered documents, tombstones and partial documents, and the newest commit time.

    Raises:
        SatelliteError: There is no index, or it cannot be read.
        UsageError: The options are not valid.

    Example:
        >>> from consumers.search.query import stats
        >>> stats(Path(".cdc/search")).tables
        {'public.products': 2}

    """
    with closing(open_index(folder, options)) as index:
        return index.stats()


def documents(
    folder: Path, source: str, table: Table, options: Mapping[str, object] = NO_OPTIONS
) -> Iterator[tuple[str, Mapping[str, Value], Position]]:
    """List every row of one table as the index stores it.

    Rows that a filter hides from searches are included; excluded columns are not.

    Args:
        folder: The satellite's folder (``DATA/search``); not used with OpenSearch.
        source: The source's id, such as ``main``.
        table: The table.
        options: The settings ``[consumers.search]``; empty for the embedded engine.

    Returns:
        An iterator over the text of each row's key, its values, and its position.

    Raises:
        SatelliteError: There is no index, or it cannot be read.
        UsageError: The options are not valid.

    Example:
        >>> from consumers.search.query import documents
        >>> rows = documents(Path(".cdc/search"), "main", Table("public", "products"))
        >>> {key: values["name"] for key, values, position in rows}
        {'[1]': 'blue shirt', '[2]': 'blue hat'}

    """
    with closing(open_index(folder, options)) as index:
        yield from index.documents(source, table)


def table_name(text: str) -> Table:
    """Parse a table's name. Raises UsageError."""
    try:
        return Table.parse(text)
    except ValueError as error:
        raise UsageError(str(error), "cdcctl search stats lists the tables") from error
