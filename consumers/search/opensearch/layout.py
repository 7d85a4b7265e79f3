"""The format of documents in OpenSearch: settings and explicit mappings of the index, ids, and row states as JSON.

`_source` contains the row (`cells`: exact numbers, as JSON text) and what is searched. A deleted row stays as a
tombstone: OpenSearch forgets the versions of deleted documents after a minute.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from cdckit.change import Table, Value
from cdckit.rows import NO_POSITION, RowState, ordered_values
from consumers.search.engine import StoredRow, TableWatermark
from consumers.search.exact_json import decode, encode
from consumers.search.mapping import IndexFields, IndexMapping, MappedRow, TableMapper

STATE_FIELDS = (
    "position",
    "deleted",
    "base",
    "cells",
    "fills",
    "commit_time",
    "floor",
    "columns",
    "source",
    "table",
    "key",
)
FACET_SEPARATOR = "\x1f"
"""Separates a column's name from its value in the field `facets`."""

_MAX_ID_BYTES = 512
_ANALYZERS: Mapping[str, Mapping[str, object]] = {
    "unicode61": {"tokenizer": "standard", "filter": ["lowercase", "asciifolding"]},
    "porter": {"tokenizer": "standard", "filter": ["lowercase", "asciifolding", "porter_stem"]},
    "trigram": {"tokenizer": "trigram", "filter": ["lowercase"]},
}
_KEYWORD = {"type": "keyword"}
_FILTER_ONLY = {"type": "keyword", "doc_values": False}
_VALUES_ONLY = {"type": "keyword", "index": False}
_STORED_ONLY = {"type": "keyword", "index": False, "doc_values": False}
_FLAG = {"type": "boolean", "doc_values": False}
_TEXT = {"type": "text", "analyzer": "words"}


def index_body(
    mapping: IndexMapping, notes: Mapping[str, str], refresh_seconds: float, replicas: int
) -> dict[str, Any]:
    """Settings and mappings of one generation; its ``_meta`` contains the index mapping and the notes."""
    settings = {
        "number_of_replicas": replicas,
        "refresh_interval": f"{round(refresh_seconds * 1000)}ms",
        "translog.durability": "request",
        "analysis": {
            "analyzer": {"words": {"type": "custom", **_ANALYZERS[mapping.tokenizer]}},
            "tokenizer": {"trigram": {"type": "ngram", "min_gram": 3, "max_gram": 3}},
        },
    }
    fields = {
        "source": _FILTER_ONLY, "table": _KEYWORD, "kind": _FILTER_ONLY, "position": _VALUES_ONLY,
        "base": _VALUES_ONLY, "floor": _FILTER_ONLY, "columns": _FILTER_ONLY,
        "facets": {**_KEYWORD, "ignore_above": 1000}, "key": _STORED_ONLY, "cells": _STORED_ONLY,
        "fills": _STORED_ONLY, "shown": _STORED_ONLY, "title": _TEXT, "body": _TEXT, "tags": _TEXT,
        "deleted": _FLAG, "visible": _FLAG, "commit_time": {"type": "date", "index": False},
        "touched": {"type": "long", "index": False},
    }  # fmt: skip
    meta = {"mapping": mapping.encode(), **notes}
    return {"settings": settings, "mappings": {"dynamic": "strict", "_meta": meta, "properties": fields}}


def row_id(source: str, table: Table, key: str) -> str:
    """A row's document id: readable, or a hash if that is too long."""
    text = f"{source}/{table}/{key}"
    size = len(text.encode())
    return text if size <= _MAX_ID_BYTES else f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def table_id(source: str, table: Table) -> str:
    """The id of the document with a table's truncate watermark and known columns."""
    return f"table:{source}/{table}"


def row_body(row: StoredRow, mapper: TableMapper) -> dict[str, Any]:
    """The document of a row. Default values are left out (`stored_row` restores them), because each field costs time.

    Raises PoisonChange when its transform fails.
    """
    state, values = row.state, ordered_values(row.state)
    indexed = None if state.deleted else mapper.index(MappedRow(row.source, row.table, row.key, values))
    body: dict[str, Any] = {
        "kind": "row", "source": row.source, "table": str(row.table), "key": row.key, "position": state.position,
        "visible": indexed is not None, "cells": encode({} if state.deleted else state.values).decode(),
        "commit_time": row.commit_time, "touched": round(time.time() * 1000),
    }  # fmt: skip
    if state.deleted:
        body["deleted"] = True
    if state.base != state.position:
        body["base"] = state.base
    if state.fills:
        body["fills"] = encode(state.fills).decode()
    if state.base == NO_POSITION:
        body["columns"] = sorted(state.values)
    if indexed is not None:
        texts = {"title": indexed.title, "body": indexed.body, "tags": indexed.tags}
        body |= {name: text for name, text in texts.items() if text}  # an empty field costs as much time as a short one
        if mapper.facets:
            body["facets"] = _facets(mapper.facets, indexed)
        if indexed.shown is not values:
            body["shown"] = encode(indexed.shown).decode()
    return body


def stored_row(source: Mapping[str, Any]) -> StoredRow:
    """The row that a document's ``_source`` describes."""
    values = decode(source["cells"])
    position, fills = source["position"], source.get("fills")
    state = RowState(
        position, source.get("deleted", False), source.get("base", position), values, decode(fills) if fills else {}
    )
    return StoredRow(source["source"], Table.parse(source["table"]), source["key"], state, source["commit_time"])


def watermark_body(watermark: TableWatermark) -> dict[str, Any]:
    """The document of a table's watermark."""
    return {
        "kind": "table", "source": watermark.source, "table": str(watermark.table), "floor": watermark.position,
        "columns": sorted(watermark.columns),
    }  # fmt: skip


def watermark_of(source: Mapping[str, Any]) -> TableWatermark:
    """The watermark that a document's ``_source`` describes."""
    return TableWatermark(source["source"], Table.parse(source["table"]), source["floor"], source["columns"], "")


def _facets(columns: Sequence[str], indexed: IndexFields) -> list[str]:
    return [f"{column}{FACET_SEPARATOR}{_plain(indexed.shown.get(column))}" for column in columns]


def _plain(value: Value) -> str:
    return (
        str(value) if isinstance(value, str | int | Decimal) and not isinstance(value, bool) else encode(value).decode()
    )
