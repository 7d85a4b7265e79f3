"""Encodes COPY's text as records that look like wal2json's inserts; pure.

COPY writes each value with its type's output function, as wal2json does, and escapes it almost as JSON does: backslash,
tab and newline have the same escapes in both. So a record is COPY's line, split at its tabs and filled into the table's
template; only quotes, other control characters, nulls and non-finite numbers need more work. Hundreds of rows are
encoded at once, column by column: each step is one call for all of them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from decimal import Decimal

import msgspec

from cdckit.change import Table
from cdckit.envelope import VERSION, Metadata, MetadataWriter
from cdckit.relation import RelationColumn
from producer.kinesis.batching.row_batch import RowBatch
from producer.masking.copy_masker import NULL, CopyMasker
from producer.masking.masker import Masker
from producer.postgres.catalog import SizedRelation, quote_identifier
from producer.records import MAX_KEY, Origin, Record, partition_key

_BOOL, _BYTEA, _FLOATS = 16, 17, (700, 701, 1700)
_INTEGERS = (20, 21, 23, 26)
_BARE = frozenset((_BOOL, *_INTEGERS, *_FLOATS))
_NON_FINITE = frozenset((b"NaN", b"Infinity", b"-Infinity"))
_PLAIN_BYTES = bytes((9, 10, *range(32, 256)))
_ESCAPES = re.compile(rb"\\.|[\x00-\x08\x0b-\x1f]", re.DOTALL)
_encode = msgspec.json.encode
_exact = msgspec.json.Decoder(list[object], float_hook=Decimal)
_raws = msgspec.json.Decoder(list[msgspec.Raw])
Columns = list[list[bytes]]


class CopyEncoder:
    """Encodes the rows of one table."""

    def __init__(self, relation: SizedRelation, source: str, masker: Masker) -> None:
        """`source` begins the partition keys. Raises UsageError when a mask does not fit the table."""
        self._masker, self._source = CopyMasker(relation, masker), source
        self.relation = self._masker.relation
        self.select = ", ".join(map(_expression, relation.columns))
        """The columns for COPY's SELECT."""
        self._floats = [at for at, column in enumerate(relation.columns) if column.type_oid in _FLOATS]
        indexes = {column.name: at for at, column in enumerate(relation.columns)}
        self._key = [indexes[name] for name in relation.key]
        key_types = [column.type_oid for column in self.relation.key_columns]
        self._plain_key = bool(key_types) and not set(key_types) & set(_FLOATS)
        self._prefix = f"{source}/{relation.table}/".encode()
        self._max_key_bytes = MAX_KEY - len(self._prefix) - 1

    def rows(self, lines: Sequence[bytes], context: SnapshotContext, first: int) -> RowBatch:
        """Encode COPY's lines (with their ends); their indexes count from `first`."""
        numbers = range(first, first + len(lines))
        columns = self._columns(lines)
        values_json = list(columns)
        template = context.template(self, self._nulls(values_json))
        text = template.fill(values_json, [b"%d" % index for index in numbers])
        return RowBatch(self.relation.table, text, len(lines), lambda: self._keys(columns, len(lines)))

    def deletion(self, key: str, context: SnapshotContext, index: int) -> Record:
        """Return the record that deletes the row of this key (`cdckit.change.key_text`)."""
        raws = _raws.decode(key)
        columns = [
            b'{"name":%b,"type":%b,"value":%b}' % (*_name_and_type(column), bytes(raw))
            for column, raw in zip(self.relation.key_columns, raws, strict=True)
        ]
        pk = b",".join(b'{"name":%b,"type":%b}' % _name_and_type(column) for column in self.relation.key_columns)
        head = context.head.replace(b'"I"', b'"D"', 1) + _table(self.relation.table).replace(
            b'"columns"', b'"identity"'
        )
        payload = b'%b[%b],"pk":[%b]}' % (head, b",".join(columns), pk)
        values = dict(zip(self.relation.key, _exact.decode(key), strict=True))
        return Record(
            partition_key(self._source, self.relation.table, values),
            context.inject(payload, index),
            self.relation.table,
        )

    def pieces(self, nullable: Collection[int]) -> list[bytes]:
        """Return the text around the values, from table name to key, without quotes around `nullable` columns."""
        found, text = [], _table(self.relation.table) + b"["
        for at, column in enumerate(self.relation.columns):
            quote = b"" if column.type_oid in _BARE or at in nullable else b'"'
            found.append(
                text + b'%b{"name":%b,"type":%b,"value":%b' % (b"," if at else b"", *_name_and_type(column), quote)
            )
            text = quote + b"}"
        pk = b",".join(b'{"name":%b,"type":%b}' % _name_and_type(column) for column in self.relation.key_columns)
        return [*found, b'%b],"pk":[%b]' % (text, pk)]

    def _columns(self, lines: Sequence[bytes]) -> Columns:
        """Split lines into values, masked and escaped as in JSON, one list per column."""
        text, width = b"".join(lines).replace(b"\n", b"\t"), len(self.relation.columns)
        if b'"' in text or b"\\" in text or text.translate(None, _PLAIN_BYTES):
            text = _json(text)
        values = text.split(b"\t")[:-1]
        columns = [values[at::width] for at in range(width)]
        for at in self._floats:
            if not _NON_FINITE.isdisjoint(columns[at]):
                columns[at] = [NULL if value in _NON_FINITE else value for value in columns[at]]
        self._masker.mask(columns)
        return columns

    def _nulls(self, columns: Columns) -> frozenset[int]:
        """Write nulls as JSON does; return the columns that have any: their values bring their own quotes."""
        nullable = frozenset(at for at, values in enumerate(columns) if NULL in values)
        for at in nullable:
            columns[at] = self._as_json(at, columns[at])
        return nullable

    def _as_json(self, at: int, values: Sequence[bytes]) -> list[bytes]:
        """Return a column's values as JSON."""
        pattern = b"%b" if self.relation.columns[at].type_oid in _BARE else b'"%b"'
        return [b"null" if value == NULL else pattern % value for value in values]

    def _keys(self, columns: Columns, count: int) -> list[bytes]:
        """Return the rows' partition keys."""
        if not self._key:
            return [partition_key(self._source, self.relation.table, None).encode()] * count
        parts = [self._as_json(at, columns[at]) for at in self._key]
        texts = parts[0] if len(parts) == 1 else list(map(b",".join, zip(*parts, strict=True)))
        plain = (
            self._plain_key and b"\\" not in b"".join(texts) and max(map(len, texts), default=0) < self._max_key_bytes
        )
        return [b"%b[%b]" % (self._prefix, text) for text in texts] if plain else [*map(self._parsed_key, texts)]

    def _parsed_key(self, text: bytes) -> bytes:
        values = dict(zip(self.relation.key, _exact.decode(b"[%b]" % text), strict=True))
        return partition_key(self._source, self.relation.table, values).encode()


class SnapshotContext:
    """What all rows of one read share: their WAL position, the time, and the envelope."""

    def __init__(self, metadata: MetadataWriter, lsn: str, moment: str) -> None:
        """`lsn` and `moment` (ISO 8601) are the read's."""
        metadata.begin(lsn.encode())
        self._metadata = metadata
        self.head = b'{"action":"I","xid":null,"timestamp":%b,"lsn":"%b"' % (_encode(moment), lsn.encode())
        self._templates: dict[tuple[Table, Collection[int]], Template] = {}

    def inject(self, payload: bytes, index: int) -> bytes:
        """Return the payload with its metadata, as a record."""
        return self._metadata.inject(payload, index)

    def template(self, encoder: CopyEncoder, nullable: frozenset[int]) -> Template:
        """Return the template for the table's rows, whose last value is the index."""
        key = encoder.relation.table, nullable
        if key not in self._templates:
            before, after = self._metadata.inject(b"}", 0).split(b'"index":0', 1)
            self._templates[key] = Template(self.head, encoder.pieces(nullable), before + b'"index":', after)
        return self._templates[key]


class Template:
    """One table's text around the values of a row and its index."""

    def __init__(self, head: bytes, pieces: Sequence[bytes], before: bytes, after: bytes) -> None:
        """Values go between the `pieces`, the index between `before` and `after`."""
        texts = list(pieces)
        texts[0], texts[-1] = head + texts[0], texts[-1] + before
        self._row = [part for text in texts for part in (text, b"")] + [after + b"\n"]

    def fill(self, columns: Columns, indexes: list[bytes]) -> bytes:
        """Return the rows' text, one line each; no value contains a line end."""
        parts, width = self._row * len(indexes), len(self._row)
        for at, values in enumerate((*columns, indexes)):
            parts[2 * at + 1 :: width] = values
        text = b"".join(parts)
        assert text.count(b"\n") == len(indexes), "a type's name contains a line end"
        return text


def metadata_writer(origin: Origin, kind: str) -> MetadataWriter:
    """Return the writer for rows that were read; their annotation says that they were not inserted at that position."""
    return annotation_writer(origin, {"read": kind})


def annotation_writer(origin: Origin, annotation: dict[str, str]) -> MetadataWriter:
    """Return the writer for records that no transaction of a user made; `annotation` says what they are."""
    return MetadataWriter(
        Metadata(VERSION, origin.epoch, "", 0, origin.source, origin.system, origin.timeline, origin.slot, annotation)
    )


def _expression(column: RelationColumn) -> str:
    name = quote_identifier(column.name)
    if column.type_oid == _BYTEA:
        return f"encode({name}, 'hex')"
    return f"{name}::text" if column.type_oid == _BOOL else name


def _json(text: bytes) -> bytes:
    """Escape the values in COPY's text as JSON does."""
    if b'"' in text:
        text = text.replace(b'"', b'\\"')
    if b"\\v" in text or text.translate(None, _PLAIN_BYTES):
        text = _ESCAPES.sub(_escaped, text)
    return text


def _escaped(found: re.Match[bytes]) -> bytes:
    match = found[0]
    if match[:1] == b"\\":
        return b"\\u000b" if match == b"\\v" else match
    return b"\\u%04x" % match[0]


def _table(table: Table) -> bytes:
    return b',"schema":%b,"table":%b,"columns":' % (_encode(table.schema), _encode(table.name))


def _name_and_type(column: RelationColumn) -> tuple[bytes, bytes]:
    kind = column.type.encode()
    if kind.count(b'"') == 2 and kind[:1] == kind[-1:] == b'"':  # as wal2json prints it: its own quotes become JSON's
        return _encode(column.name), kind
    return _encode(column.name), _encode(column.type)
