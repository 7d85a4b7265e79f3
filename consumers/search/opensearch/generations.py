"""The generations of the OpenSearch index: readers ask the alias ``NAME``, writers write behind ``NAME-write``."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from opensearchpy import OpenSearch
from opensearchpy.exceptions import RequestError
from opensearchpy.helpers import scan

from cdckit.change import Change
from cdckit.errors import SatelliteError
from cdckit.sink import Outcome
from consumers.search.engine import IndexWriter, StoredRow, TableWatermark
from consumers.search.mapping import IndexMapping
from consumers.search.opensearch import layout
from consumers.search.opensearch.client import connect, read_errors, redacted, write_errors
from consumers.search.opensearch.store import OpenSearchIndexStore
from consumers.search.options import SearchOptions

_CLOCKS_APART_SECONDS = 600.0


class OpenSearchWriter:
    """Writes the generation that the write alias names, looked up for each batch; or always the same one."""

    def __init__(self, generations: OpenSearchGenerations, generation: str = "") -> None:
        """Raises SatelliteError and TransientSinkError."""
        self._generations, self._fixed = generations, generation
        self._store = generations.store(generation or generations.written())

    @property
    def mapping(self) -> IndexMapping:
        """The mapping that the generation was made with."""
        return self._store.mapping

    def apply(self, changes: Iterable[Change]) -> Outcome:
        """Durable when it returns. Raises TransientSinkError, PoisonChange, SatelliteError."""
        written = self._fixed or self._generations.written()
        if written != self._store.index:
            self._store = self._generations.store(written)
        return self._store.apply(list(changes))

    def flush(self) -> None:
        """`apply` was durable."""

    def close(self) -> None:
        """Close the connection."""
        self._generations.close()


class OpenSearchGenerations:
    """All generations of one index name."""

    def __init__(self, options: SearchOptions, client: OpenSearch | None = None) -> None:
        """Nothing is asked of the server yet."""
        self.options, self.client = options, client or connect(options.url)
        self._read, self._write = options.index, f"{options.index}-write"
        self._number = re.compile(rf"{re.escape(options.index)}-(\d{{6}})")

    def open_writer(self, mapping: IndexMapping) -> OpenSearchWriter:
        """Write the newest generation; the first one is made with this mapping. Raises SatelliteError."""
        with write_errors(self.options.url):
            if not self.client.indices.exists_alias(name=self._write):
                self._make(1, mapping, time.time(), "stream", aliases={self._read: {}, self._write: {}})
        return OpenSearchWriter(self)

    def store(self, generation: str) -> OpenSearchIndexStore:
        """One generation, open for write_errors."""
        return OpenSearchIndexStore(self.client, self.options.url, generation, self.mapping(generation))

    def current(self) -> str:
        """The index that readers ask. Raises SatelliteError."""
        with read_errors(self.options.url):
            return self._behind(self._read)

    def written(self) -> str:
        """The index that writers write. Raises TransientSinkError, SatelliteError."""
        with write_errors(self.options.url):
            return self._behind(self._write)

    def unfinished(self) -> str | None:
        """The index that writers write already and readers do not ask yet."""
        written = self.written()
        return None if written == self.current() else written

    def create(self, mapping: IndexMapping, started: float, origin: str) -> str:
        """Make an empty index beside the one in use; left-overs are removed."""
        current = self.current()
        with read_errors(self.options.url):
            self._remove_all_but(current)
            found = self._number.fullmatch(current)
            return self._make(int(found[1]) + 1 if found else 1, mapping, started, origin, aliases={})

    def note(self, generation: str, name: str) -> str:
        """What it was made with."""
        return str(self._meta(generation).get(name, ""))

    def writer(self, generation: str) -> IndexWriter:
        """Writes just this generation."""
        return OpenSearchWriter(OpenSearchGenerations(self.options), generation)

    def mapping(self, generation: str) -> IndexMapping:
        """The mapping that it was made with."""
        return IndexMapping.decode(str(self._meta(generation)["mapping"]))

    def load(self, generation: str, floors: Iterable[TableWatermark], rows: Iterable[StoredRow]) -> int:
        """Join rows of another generation into this one."""
        return self.store(generation).load(floors, rows)

    def floors(self, generation: str) -> Sequence[TableWatermark]:
        """Every table's watermark and known columns."""
        return [layout.floor_of(hit["_source"]) for hit in self._scan(generation, [{"term": {"kind": "table"}}])]

    def rows(self, generation: str, since: float = 0.0) -> Iterator[StoredRow]:
        """Every row held; or those written since a time, by the writers' clocks."""
        touched = max(0, round((since - _CLOCKS_APART_SECONDS) * 1000))
        wanted: list[Mapping[str, Any]] = [{"term": {"kind": "row"}}, {"range": {"touched": {"gte": touched}}}]
        for hit in self._scan(generation, wanted):
            yield layout.held(hit["_source"])

    def holds(self, generation: str, rows: Iterable[StoredRow]) -> Iterator[bool]:
        """Whether each row is held there."""
        chunk: list[str] = []
        for row in rows:
            chunk.append(layout.row_id(row.source, row.table, row.key))
            if len(chunk) == 1_000:
                yield from self._there(generation, chunk)
                chunk = []
        yield from self._there(generation, chunk)

    def turn_writers(self, generation: str) -> None:
        """Each batch that begins after this has returned goes to this index."""
        with read_errors(self.options.url):
            self._turn(self._write, generation)

    def turn_readers(self, generation: str) -> None:
        """Searches ask this index from now on; the others are removed."""
        with read_errors(self.options.url):
            self.client.indices.refresh(index=generation)
            self._turn(self._read, generation)
            self._remove_all_but(generation)

    def close(self) -> None:
        """Close the connection."""
        self.client.close()

    def _make(
        self, number: int, mapping: IndexMapping, started: float, origin: str, *, aliases: Mapping[str, Any]
    ) -> str:
        name = f"{self._read}-{number:06}"
        notes = {"started": repr(started), "origin": origin}
        body = layout.index_body(mapping, notes, self.options.refresh_seconds, self.options.replicas)
        template = {"index_patterns": [f"{self._read}-0*"], "template": {"mappings": {"dynamic": "strict"}}}
        self.client.indices.put_index_template(name=self._read, body=template)
        try:
            self.client.indices.create(index=name, body={**body, "aliases": aliases})
        except RequestError as error:
            if error.error != "resource_already_exists_exception":
                raise
        return name  # another shard's process may have made it at the same moment

    def _turn(self, alias: str, generation: str) -> None:
        actions = [
            {"remove": {"index": f"{self._read}-*", "alias": alias}},
            {"add": {"index": generation, "alias": alias}},
        ]
        self.client.indices.update_aliases(body={"actions": actions})

    def _behind(self, alias: str) -> str:
        found: list[str] = sorted(self.client.indices.get_alias(name=alias))
        if len(found) != 1:
            raise SatelliteError(
                f"the alias {alias} at {redacted(self.options.url)} names {len(found)} indexes: {', '.join(found)}",
                "let it name one of them",
            )
        return found[0]

    def _remove_all_but(self, kept: str) -> None:
        for name in self.client.indices.get(index=f"{self._read}-*"):
            if self._number.fullmatch(name) and name != kept:
                self.client.indices.delete(index=name)

    def _meta(self, generation: str) -> Mapping[str, Any]:
        with read_errors(self.options.url):
            found: Mapping[str, Any] = self.client.indices.get_mapping(index=generation)[generation]["mappings"][
                "_meta"
            ]
            return found

    def _scan(self, generation: str, wanted: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
        with read_errors(self.options.url):
            self.client.indices.refresh(index=generation)
            query = {"query": {"bool": {"filter": list(wanted)}}, "_source": list(layout.STATE_FIELDS)}
            yield from scan(self.client, index=generation, query=query, size=1_000, sort="_doc")

    def _there(self, generation: str, ids: Sequence[str]) -> Iterator[bool]:
        if ids:
            with read_errors(self.options.url):
                answer = self.client.mget(index=generation, body={"ids": list(ids)}, _source=False)
            yield from (bool(one.get("found")) for one in answer["docs"])
