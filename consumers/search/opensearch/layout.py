"""How documents lie in OpenSearch: the index's settings and explicit mappings, ids, and row states as JSON.

`_source` holds the row as it is (`cells`, exact numbers, as JSON text) beside what is searched. A deleted row stays as
a tombstone: OpenSearch itself forgets the versions of deleted documents after a minute.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from cdckit.change import Table, Value
from consumers.search.document import NO_POSITION, Document, ordered_values
from consumers.search.engine import Floor, Held
from consumers.search.mapping import Indexed, IndexMapping, Row, TableMapper

STATE = ("position", "deleted", "base", "cells", "fills", "commit_time", "floor", "columns", "source", "table", "key")
FACET = "\x1f"
"""Stands between a column's name and its value in the field `facets`."""

_MOST_ID_BYTES = 512
_ANALYZERS: Mapping[str, Mapping[str, object]] = {
    "unicode61": {"tokenizer": "standard", "filter": ["lowercase", "asciifolding"]},
    "porter": {"tokenizer": "standard", "filter": ["lowercase", "asciifolding", "porter_stem"]},
    "trigram": {"tokenizer": "trigram", "filter": ["lowercase"]},
}
_KEYWORD = {"type": "keyword"}
_FILTER = {"type": "keyword", "doc_values": False}
_COLUMN = {"type": "keyword", "index": False}
_KEPT = {"type": "keyword", "index": False, "doc_values": False}
_FLAG = {"type": "boolean", "doc_values": False}
_TEXT = {"type": "text", "analyzer": "words"}
encode = msgspec.json.Encoder(decimal_format="number").encode
decode = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal).decode


def index_body(
    mapping: IndexMapping, notes: Mapping[str, str], refresh_seconds: float, replicas: int
) -> dict[str, Any]:
    """Settings and mappings of one generation; the mapping and notes that it was made with are its ``_meta``."""
    settings = {
        "number_of_replicas": replicas,
        "refresh_interval": f"{round(refresh_seconds * 1000)}ms",
        "translog.durability": "request",
        "analysis": {
            "analyzer": {"words": {"type": "custom", **_ANALYZERS[mapping.tokenizer]}},
            "tokenizer": {"trigram": {"type": "ngram", "min_gram": 3, "max_gram": 3}},
        },
    }
    kinds = {
        "source": _FILTER, "table": _KEYWORD, "kind": _FILTER, "position": _COLUMN, "base": _COLUMN,
        "floor": _FILTER, "columns": _FILTER, "facets": {**_KEYWORD, "ignore_above": 1000},
        "key": _KEPT, "cells": _KEPT, "fills": _KEPT, "shown": _KEPT, "title": _TEXT, "body": _TEXT, "tags": _TEXT,
        "deleted": _FLAG, "visible": _FLAG, "commit_time": {"type": "date", "index": False},
        "touched": {"type": "long", "index": False},
    }  # fmt: skip
    meta = {"mapping": mapping.encode(), **notes}
    return {"settings": settings, "mappings": {"dynamic": "strict", "_meta": meta, "properties": kinds}}


def row_id(source: str, table: Table, key: str) -> str:
    """A row's document id: readable, or a hash where it would be too long."""
    text = f"{source}/{table}/{key}"
    size = len(text.encode())
    return text if size <= _MOST_ID_BYTES else f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def table_id(source: str, table: Table) -> str:
    """The id of the document that holds a table's truncate watermark and known columns."""
    return f"table:{source}/{table}"


def row_body(row: Held, mapper: TableMapper) -> dict[str, Any]:
    """The document of a row in this state, without what `held` knows from its absence: a field costs what a row does.

    Raises PoisonChange when its transform fails.
    """
    document, values = row.document, ordered_values(row.document)
    indexed = None if document.deleted else mapper.index(Row(row.source, row.table, row.key, values))
    body: dict[str, Any] = {
        "kind": "row", "source": row.source, "table": str(row.table), "key": row.key, "position": document.position,
        "visible": indexed is not None, "cells": encode({} if document.deleted else document.values).decode(),
        "commit_time": row.commit_time, "touched": round(time.time() * 1000),
    }  # fmt: skip
    if document.deleted:
        body["deleted"] = True
    if document.base != document.position:
        body["base"] = document.base
    if document.fills:
        body["fills"] = encode(document.fills).decode()
    if document.base == NO_POSITION:
        body["columns"] = sorted(document.values)
    if indexed is not None:
        texts = {"title": indexed.title, "body": indexed.body, "tags": indexed.tags}
        body |= {name: text for name, text in texts.items() if text}  # an empty field costs as much as a short one
        if mapper.facets:
            body["facets"] = _facets(mapper.facets, indexed)
        if indexed.shown is not values:
            body["shown"] = encode(indexed.shown).decode()
    return body


def held(source: Mapping[str, Any]) -> Held:
    """The row in a document's ``_source``."""
    values = decode(source["cells"])
    position, fills = source["position"], source.get("fills")
    document = Document(
        position, source.get("deleted", False), source.get("base", position), values, decode(fills) if fills else {}
    )
    return Held(source["source"], Table.parse(source["table"]), source["key"], document, source["commit_time"])


def floor_body(floor: Floor) -> dict[str, Any]:
    """The document of a table."""
    return {
        "kind": "table", "source": floor.source, "table": str(floor.table), "floor": floor.position,
        "columns": sorted(floor.columns),
    }  # fmt: skip


def floor_of(source: Mapping[str, Any]) -> Floor:
    """The table in a document's ``_source``."""
    return Floor(source["source"], Table.parse(source["table"]), source["floor"], source["columns"], "")


def _facets(columns: Sequence[str], indexed: Indexed) -> list[str]:
    return [f"{column}{FACET}{_plain(indexed.shown.get(column))}" for column in columns]


def _plain(value: Value) -> str:
    return (
        str(value) if isinstance(value, str | int | Decimal) and not isinstance(value, bool) else encode(value).decode()
    )
