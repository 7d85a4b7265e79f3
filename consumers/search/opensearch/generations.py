"""The generations of the OpenSearch index: the alias ``NAME`` is read, the index behind ``NAME-write`` is written."""

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

_CLOCK_SKEW_SECONDS = 600.0


class OpenSearchWriter:
    """Writes the generation behind the write alias, looked up for each batch; or one given generation."""

    def __init__(self, generations: OpenSearchGenerations, generation: str = "") -> None:
        """Open the generation. Raises SatelliteError and TransientSinkError."""
        self._generations, self._fixed = generations, generation
        self._store = generations.store(generation or generations.write_target())

    @property
    def mapping(self) -> IndexMapping:
        """The mapping with which the generation was created."""
        return self._store.mapping

    def apply(self, changes: Iterable[Change]) -> Outcome:
        """Apply the changes; durable on return. Raises TransientSinkError, PoisonChange, SatelliteError."""
        write_target = self._fixed or self._generations.write_target()
        if write_target != self._store.index:
            self._store = self._generations.store(write_target)
        return self._store.apply(list(changes))

    def flush(self) -> None:
        """Do nothing: `apply` has made the changes durable."""

    def close(self) -> None:
        """Close the connection."""
        self._generations.close()


class OpenSearchGenerations:
    """All generations of one index name."""

    def __init__(self, options: SearchOptions, client: OpenSearch | None = None) -> None:
        """Prepare only: no request is sent."""
        self.options, self.client = options, client or connect(options.url)
        self._read_alias, self._write_alias = options.index, f"{options.index}-write"
        self._number = re.compile(rf"{re.escape(options.index)}-(\d{{6}})")

    def open_writer(self, mapping: IndexMapping) -> OpenSearchWriter:
        """Open the generation that is written; the first one is created with this mapping. Raises SatelliteError."""
        with write_errors(self.options.url):
            if not self.client.indices.exists_alias(name=self._write_alias):
                self._create_index(
                    1, mapping, time.time(), "stream", aliases={self._read_alias: {}, self._write_alias: {}}
                )
        return OpenSearchWriter(self)

    def store(self, generation: str) -> OpenSearchIndexStore:
        """One generation, open for writing."""
        return OpenSearchIndexStore(self.client, self.options.url, generation, self.mapping(generation))

    def current(self) -> str:
        """The index that is read. Raises SatelliteError."""
        with read_errors(self.options.url):
            return self._index_behind(self._read_alias)

    def write_target(self) -> str:
        """The index that is written. Raises TransientSinkError, SatelliteError."""
        with write_errors(self.options.url):
            return self._index_behind(self._write_alias)

    def unfinished(self) -> str | None:
        """The index that is written but not read yet; else None."""
        write_target = self.write_target()
        return None if write_target == self.current() else write_target

    def create(self, mapping: IndexMapping, started: float, origin: str) -> str:
        """Create an empty index beside the one in use. What an interrupted reindex left is removed first."""
        current = self.current()
        with read_errors(self.options.url):
            self._remove_others(current)
            found = self._number.fullmatch(current)
            return self._create_index(int(found[1]) + 1 if found else 1, mapping, started, origin, aliases={})

    def metadata(self, generation: str, name: str) -> str:
        """A value stored at its creation: `started` or `origin`."""
        return str(self._meta(generation).get(name, ""))

    def writer(self, generation: str) -> IndexWriter:
        """A writer of this generation only."""
        return OpenSearchWriter(OpenSearchGenerations(self.options), generation)

    def mapping(self, generation: str) -> IndexMapping:
        """The mapping with which the generation was created."""
        return IndexMapping.decode(str(self._meta(generation)["mapping"]))

    def load(self, generation: str, watermarks: Iterable[TableWatermark], rows: Iterable[StoredRow]) -> int:
        """Merge watermarks and rows of another generation into this one. Returns the number of rows."""
        return self.store(generation).load(watermarks, rows)

    def watermarks(self, generation: str) -> Sequence[TableWatermark]:
        """The watermark and known columns of every table."""
        return [layout.watermark_of(hit["_source"]) for hit in self._scan(generation, [{"term": {"kind": "table"}}])]

    def rows(self, generation: str, since: float = 0.0) -> Iterator[StoredRow]:
        """Every stored row; with `since` those written since then by the writers' clocks, and some more."""
        touched = max(0, round((since - _CLOCK_SKEW_SECONDS) * 1000))
        wanted: list[Mapping[str, Any]] = [{"term": {"kind": "row"}}, {"range": {"touched": {"gte": touched}}}]
        for hit in self._scan(generation, wanted):
            yield layout.stored_row(hit["_source"])

    def contains(self, generation: str, rows: Iterable[StoredRow]) -> Iterator[bool]:
        """Whether each row is stored in the generation, including tombstones."""
        chunk: list[str] = []
        for row in rows:
            chunk.append(layout.row_id(row.source, row.table, row.key))
            if len(chunk) == 1_000:
                yield from self._stored(generation, chunk)
                chunk = []
        yield from self._stored(generation, chunk)

    def switch_writers(self, generation: str) -> None:
        """Point the write alias to this index: every batch that begins later goes to it."""
        with read_errors(self.options.url):
            self._point_alias(self._write_alias, generation)

    def switch_readers(self, generation: str) -> None:
        """Point the read alias to this index, and remove the others."""
        with read_errors(self.options.url):
            self.client.indices.refresh(index=generation)
            self._point_alias(self._read_alias, generation)
            self._remove_others(generation)

    def close(self) -> None:
        """Close the connection."""
        self.client.close()

    def _create_index(
        self, number: int, mapping: IndexMapping, started: float, origin: str, *, aliases: Mapping[str, Any]
    ) -> str:
        name = f"{self._read_alias}-{number:06}"
        notes = {"started": repr(started), "origin": origin}
        body = layout.index_body(mapping, notes, self.options.refresh_seconds, self.options.replicas)
        template = {"index_patterns": [f"{self._read_alias}-0*"], "template": {"mappings": {"dynamic": "strict"}}}
        self.client.indices.put_index_template(name=self._read_alias, body=template)
        try:
            self.client.indices.create(index=name, body={**body, "aliases": aliases})
        except RequestError as error:
            if error.error != "resource_already_exists_exception":
                raise
        return name  # the process of another shard may have created it at the same moment

    def _point_alias(self, alias: str, generation: str) -> None:
        actions = [
            {"remove": {"index": f"{self._read_alias}-*", "alias": alias}},
            {"add": {"index": generation, "alias": alias}},
        ]
        self.client.indices.update_aliases(body={"actions": actions})

    def _index_behind(self, alias: str) -> str:
        found: list[str] = sorted(self.client.indices.get_alias(name=alias))
        if len(found) != 1:
            raise SatelliteError(
                f"the alias {alias} at {redacted(self.options.url)} names {len(found)} indexes: {', '.join(found)}",
                "let the alias name one index",
            )
        return found[0]

    def _remove_others(self, kept: str) -> None:
        for name in self.client.indices.get(index=f"{self._read_alias}-*"):
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

    def _stored(self, generation: str, ids: Sequence[str]) -> Iterator[bool]:
        if ids:
            with read_errors(self.options.url):
                answer = self.client.mget(index=generation, body={"ids": list(ids)}, _source=False)
            yield from (bool(item.get("found")) for item in answer["docs"])
