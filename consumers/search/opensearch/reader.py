"""Reads the OpenSearch index: ranked search, facets, figures, rows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from opensearchpy.helpers import scan

from cdckit.change import Table, Value
from cdckit.errors import UsageError
from cdckit.position import Position
from consumers.search.engine import Hit, IndexStats, SearchPage, SearchRequest
from consumers.search.exact_json import decode
from consumers.search.language import And, Or, Query, Term
from consumers.search.mapping import MARK_END, MARK_START, IndexMapping, highlight_html
from consumers.search.opensearch import layout
from consumers.search.opensearch.client import read_errors
from consumers.search.opensearch.generations import OpenSearchGenerations
from consumers.search.options import SearchOptions

_MAX_HITS = 10_000
_DELETED = {"term": {"deleted": True}}
_WEIGHTS = {"title": 4, "body": 1, "tags": 2}
_MARKS = {"pre_tags": [MARK_START], "post_tags": [MARK_END]}
_MAX_HIGHLIGHTED = 500_000  # characters of one field; above a million the server refuses the request


class OpenSearchReader:
    """Searches through the read alias: a reindex takes effect when it switches the readers."""

    def __init__(self, options: SearchOptions) -> None:
        """Open the index. Raises SatelliteError when there is none."""
        self._generations = OpenSearchGenerations(options)
        self._client, self._alias, self._url = self._generations.client, options.index, options.url
        self._generations.current()

    @property
    def mapping(self) -> IndexMapping:
        """The mapping with which the generation was created."""
        return self._generations.mapping(self._generations.current())

    def search(self, request: SearchRequest) -> SearchPage:
        """Run a search. Raises UsageError for too deep a page, or a facet that the mapping does not name."""
        if request.offset + request.limit > _MAX_HITS:
            raise UsageError(
                f"OpenSearch returns only the first {_MAX_HITS} hits; {request.offset + request.limit} were requested",
                "ask more narrowly",
            )
        if request.facets:
            _check_facets(self.mapping, request.facets)
        with read_errors(self._url):
            answer = self._client.search(index=self._alias, body=_body(request))
        return SearchPage(
            answer["hits"]["total"]["value"],
            [_hit(hit) for hit in answer["hits"]["hits"]],
            {name: _counts(answer["aggregations"][name]) for name in request.facets},
        )

    def stats(self) -> IndexStats:
        """Figures of the index."""
        generation = self._generations.current()
        tables = {"terms": {"field": "table", "size": 10_000, "order": {"_key": "asc"}}}
        body = {
            "size": 0,
            "query": {"term": {"kind": "row"}},
            "aggs": {
                "visible": {"filter": {"term": {"visible": True}}, "aggs": {"tables": tables}},
                "deleted": {"filter": _DELETED},
                "rows": {"filter": {"match_all": {}}},
                "newest": {"max": {"field": "commit_time", "format": "strict_date_optional_time_nanos"}},
            },
        }
        with read_errors(self._url):
            self._client.indices.refresh(index=generation)
            found = self._client.search(index=generation, body=body)["aggregations"]
            partial = sum(
                self._partial(generation, watermark.source, watermark.table, watermark.columns)
                for watermark in self._watermarks(generation)
            )
        visible, deleted = found["visible"]["doc_count"], found["deleted"]["doc_count"]
        return IndexStats(
            "opensearch", generation, visible, found["rows"]["doc_count"] - visible - deleted, deleted, partial,
            found["newest"].get("value_as_string"),
            {bucket["key"]: bucket["doc_count"] for bucket in found["visible"]["tables"]["buckets"]},
        )  # fmt: skip

    def documents(self, source: str, table: Table) -> Iterator[tuple[str, Mapping[str, Value], Position]]:
        """Every row of one table: key text, columns, position."""
        own = [{"term": {"kind": "row"}}, {"term": {"source": source}}, {"term": {"table": str(table)}}]
        query = {
            "query": {"bool": {"filter": own, "must_not": _DELETED}},
            "_source": ["key", "cells", "position"],
        }
        generation = self._generations.current()
        with read_errors(self._url):
            self._client.indices.refresh(index=generation)
            for hit in scan(self._client, index=generation, query=query, size=1_000, sort="_doc"):
                found = hit["_source"]
                yield found["key"], decode(found["cells"]), Position.from_sort_key(found["position"])

    def close(self) -> None:
        """Close the connection."""
        self._generations.close()

    def _watermarks(self, generation: str) -> Sequence[Any]:
        return self._generations.watermarks(generation)

    def _partial(self, generation: str, source: str, table: Table, columns: Sequence[str]) -> int:
        own = [{"term": {"source": source}}, {"term": {"table": str(table)}}, {"term": {"kind": "row"}}]
        unsure = [*own, {"term": {"base": ""}}]
        whole = [*unsure, *({"term": {"columns": column}} for column in columns)]
        counts = [
            self._client.count(index=generation, body={"query": {"bool": {"filter": wanted, "must_not": _DELETED}}})[
                "count"
            ]
            for wanted in (unsure, whole)
        ]
        return int(counts[0] - counts[1])


def dsl(query: Query) -> dict[str, Any]:
    """The query in OpenSearch's own language; words are only ever values in it."""
    if isinstance(query, Term):
        kind = "phrase_prefix" if query.prefix else "phrase"
        fields = [query.field] if query.field else [f"{name}^{weight}" for name, weight in _WEIGHTS.items()]
        return {"multi_match": {"query": query.text, "type": kind, "fields": fields}}
    if isinstance(query, And):
        return {"bool": {"must": [dsl(part) for part in query.parts]}}
    if isinstance(query, Or):
        return {"bool": {"should": [dsl(part) for part in query.parts], "minimum_should_match": 1}}
    return {"bool": {"must": [dsl(query.wanted)], "must_not": [dsl(query.unwanted)]}}


def _body(request: SearchRequest) -> dict[str, Any]:
    wanted: list[Any] = [{"term": {"visible": True}}]
    if request.table is not None:
        wanted.append({"term": {"table": str(request.table)}})
    highlight = {"number_of_fragments": 1, "fragment_size": 120}
    return {
        "query": {"bool": {"must": [dsl(request.query)], "filter": wanted}},
        "from": request.offset,
        "size": request.limit,
        "track_total_hits": True,
        "sort": ["_score", {"position": "asc"}],
        "_source": ["source", "table", "key", "cells", "shown", "commit_time"],
        "highlight": {
            **_MARKS,
            "max_analyzer_offset": _MAX_HIGHLIGHTED,
            "fields": {"title": highlight, "body": {**highlight, "no_match_size": 120}, "tags": highlight},
        },
        "aggs": {name: _facet(name) for name in request.facets},
    }


def _facet(column: str) -> dict[str, Any]:
    quoted = re.sub(r"([^\w ])", r"\\\1", column)
    return {"terms": {"field": "facets", "include": f"{quoted}{layout.FACET_SEPARATOR}.*", "size": 50}}


def _check_facets(mapping: IndexMapping, facets: Sequence[str]) -> None:
    named = {facet for rule in mapping.mapping.values() for facet in rule.facets}
    if unknown := [facet for facet in facets if facet not in named]:
        raise UsageError(
            f"the mapping names no facet {unknown[0]!r}; it has: {', '.join(sorted(named)) or 'none'}",
            'add facets = ["…"] to a mapping in cdc.toml, then: cdcctl search reindex',
        )


def _hit(hit: Mapping[str, Any]) -> Hit:
    found = hit["_source"]
    parts = hit.get("highlight", {})
    texts = [parts[name][0] for name in _WEIGHTS if name in parts]
    snippet = next((text for text in texts if MARK_START in text), texts[0] if texts else "")
    values = decode(found.get("shown") or found["cells"])
    return Hit(
        found["source"],
        found["table"],
        found["key"],
        values,
        found["commit_time"],
        hit["_score"],
        highlight_html(snippet),
    )


def _counts(found: Mapping[str, Any]) -> Mapping[str, int]:
    return {bucket["key"].split(layout.FACET_SEPARATOR, 1)[1]: bucket["doc_count"] for bucket in found["buckets"]}
