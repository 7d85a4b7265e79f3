"""Rows as wal2json prints their inserts, made from COPY's text; pure.

COPY writes each value by its type's output function, as wal2json does, and escapes it almost as JSON does: a backslash,
a tab or a newline have the same escape in both. So a row of the stream is COPY's line, cut at its tabs and put into the
table's template; only quotes, other control characters, nulls and what is no finite number need a look. Rows go by
the hundred, column by column: each step is one call for all of them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from decimal import Decimal

import msgspec

from cdckit.change import Table
from cdckit.envelope import VERSION, Metadata, MetadataWriter
from producer.kinesis.batching.row_batch import Rows
from producer.masking.copy_masker import NULL, Hiding
from producer.masking.masker import Masks
from producer.postgres.catalog import Cell, Shape, quoted
from producer.records import MAX_KEY, Origin, Record, partition_key

_BOOL, _BYTEA, _FLOATS = 16, 17, (700, 701, 1700)
_WHOLE = (20, 21, 23, 26)
_BARE = frozenset((_BOOL, *_WHOLE, *_FLOATS))
_ENDLESS = frozenset((b"NaN", b"Infinity", b"-Infinity"))
_ORDINARY = bytes((9, 10, *range(32, 256)))
_ODD = re.compile(rb"\\.|[\x00-\x08\x0b-\x1f]", re.DOTALL)
_encode = msgspec.json.encode
_exact = msgspec.json.Decoder(list[object], float_hook=Decimal)
_raws = msgspec.json.Decoder(list[msgspec.Raw])
Columns = list[list[bytes]]


class Image:
    """Turns a table's rows into records under one stamp."""

    def __init__(self, shape: Shape, source: str, masks: Masks) -> None:
        """`source` begins the partition keys. Raises UsageError when a mask does not fit the table."""
        self._hiding, self._source = Hiding(shape, masks), source
        self.shape = self._hiding.shape
        self.select = ", ".join(map(_expression, shape.cells))
        """What is to be copied, column by column."""
        self._floats = [at for at, cell in enumerate(shape.cells) if cell.oid in _FLOATS]
        places = {cell.name: at for at, cell in enumerate(shape.cells)}
        self._key = [places[name] for name in shape.key]
        kinds = [cell.oid for cell in self.shape.keys]
        self._plain_key = bool(kinds) and not set(kinds) & set(_FLOATS)
        self._prefix = f"{source}/{shape.table}/".encode()
        self._longest = MAX_KEY - len(self._prefix) - 1

    def rows(self, lines: Sequence[bytes], under: Under, first: int) -> Rows:
        """What COPY's lines (with their ends) are on the stream; their indexes count from `first`."""
        numbers = range(first, first + len(lines))
        columns = self._columns(lines)
        shown = list(columns)
        template = under.template(self, self._nulls(shown))
        text = template.filled(shown, [b"%d" % index for index in numbers])
        return Rows(self.shape.table, text, len(lines), lambda: self._keys(columns, len(lines)))

    def deletion(self, key: str, under: Under, index: int) -> Record:
        """The record that says that there is no row of this key (`cdckit.change.key_text`)."""
        raws = _raws.decode(key)
        columns = [
            b'{"name":%b,"type":%b,"value":%b}' % (*_named(cell), bytes(raw))
            for cell, raw in zip(self.shape.keys, raws, strict=True)
        ]
        pk = b",".join(b'{"name":%b,"type":%b}' % _named(cell) for cell in self.shape.keys)
        head = under.head.replace(b'"I"', b'"D"', 1) + _table(self.shape.table).replace(b'"columns"', b'"identity"')
        payload = b'%b[%b],"pk":[%b]}' % (head, b",".join(columns), pk)
        values = dict(zip(self.shape.key, _exact.decode(key), strict=True))
        return Record(
            partition_key(self._source, self.shape.table, values), under.inject(payload, index), self.shape.table
        )

    def pieces(self, nullable: Collection[int]) -> list[bytes]:
        """The text around the values, from the table's name to its key; `nullable` columns bring their own quotes."""
        found, text = [], _table(self.shape.table) + b"["
        for at, cell in enumerate(self.shape.cells):
            quote = b"" if cell.oid in _BARE or at in nullable else b'"'
            found.append(text + b'%b{"name":%b,"type":%b,"value":%b' % (b"," if at else b"", *_named(cell), quote))
            text = quote + b"}"
        keys = b",".join(b'{"name":%b,"type":%b}' % _named(cell) for cell in self.shape.keys)
        return [*found, b'%b],"pk":[%b]' % (text, keys)]

    def _columns(self, lines: Sequence[bytes]) -> Columns:
        """The values, masked, escaped as JSON's are, a list a column."""
        text, width = b"".join(lines).replace(b"\n", b"\t"), len(self.shape.cells)
        if b'"' in text or b"\\" in text or text.translate(None, _ORDINARY):
            text = _json(text)
        values = text.split(b"\t")[:-1]
        columns = [values[at::width] for at in range(width)]
        for at in self._floats:
            if not _ENDLESS.isdisjoint(columns[at]):
                columns[at] = [NULL if value in _ENDLESS else value for value in columns[at]]
        self._hiding.hide(columns)
        return columns

    def _nulls(self, columns: Columns) -> frozenset[int]:
        """Write the nulls as JSON does, and tell in which columns there were any: their texts are in quotes then."""
        nullable = frozenset(at for at, values in enumerate(columns) if NULL in values)
        for at in nullable:
            columns[at] = self._shown(at, columns[at])
        return nullable

    def _shown(self, at: int, values: Sequence[bytes]) -> list[bytes]:
        """A column's values as they stand in JSON."""
        shown = b"%b" if self.shape.cells[at].oid in _BARE else b'"%b"'
        return [b"null" if value == NULL else shown % value for value in values]

    def _keys(self, columns: Columns, count: int) -> list[bytes]:
        """The rows' partition keys."""
        if not self._key:
            return [partition_key(self._source, self.shape.table, None).encode()] * count
        parts = [self._shown(at, columns[at]) for at in self._key]
        texts = parts[0] if len(parts) == 1 else list(map(b",".join, zip(*parts, strict=True)))
        plain = self._plain_key and b"\\" not in b"".join(texts) and max(map(len, texts), default=0) < self._longest
        return [b"%b[%b]" % (self._prefix, text) for text in texts] if plain else [*map(self._parsed_key, texts)]

    def _parsed_key(self, text: bytes) -> bytes:
        values = dict(zip(self.shape.key, _exact.decode(b"[%b]" % text), strict=True))
        return partition_key(self._source, self.shape.table, values).encode()


class Under:
    """What all rows of one reading have in common: their place in the log, the time, and the envelope."""

    def __init__(self, stamper: MetadataWriter, lsn: str, moment: str) -> None:
        """`lsn` and `moment` (ISO 8601) are the reading's."""
        stamper.begin(lsn.encode())
        self._stamper = stamper
        self.head = b'{"action":"I","xid":null,"timestamp":%b,"lsn":"%b"' % (_encode(moment), lsn.encode())
        self._stamped: dict[tuple[Table, Collection[int]], Template] = {}

    def inject(self, payload: bytes, index: int) -> bytes:
        """The payload as a record."""
        return self._stamper.inject(payload, index)

    def template(self, image: Image, nullable: frozenset[int]) -> Template:
        """Whole records, the index as the last value."""
        known = image.shape.table, nullable
        if known not in self._stamped:
            before, after = self._stamper.inject(b"}", 0).split(b'"index":0', 1)
            self._stamped[known] = Template(self.head, image.pieces(nullable), before + b'"index":', after)
        return self._stamped[known]


class Template:
    """One table's text around the values of a row and its index."""

    def __init__(self, head: bytes, pieces: Sequence[bytes], before: bytes, after: bytes) -> None:
        """Values come between each two of `pieces`, the index between `before` and `after`."""
        texts = list(pieces)
        texts[0], texts[-1] = head + texts[0], texts[-1] + before
        self._row = [part for text in texts for part in (text, b"")] + [after + b"\n"]

    def filled(self, columns: Columns, indexes: list[bytes]) -> bytes:
        """The texts of so many rows, a line each; no value has a line's end."""
        parts, width = self._row * len(indexes), len(self._row)
        for at, values in enumerate((*columns, indexes)):
            parts[2 * at + 1 :: width] = values
        text = b"".join(parts)
        assert text.count(b"\n") == len(indexes), "a line's end in the name of a type"
        return text


def stamper_of(origin: Origin, kind: str) -> MetadataWriter:
    """The envelope of rows that were read: their annotation tells that nobody inserted them then."""
    return annotated(origin, {"read": kind})


def annotated(origin: Origin, annotation: dict[str, str]) -> MetadataWriter:
    """The envelope of records that no transaction of a user made."""
    return MetadataWriter(
        Metadata(VERSION, origin.epoch, "", 0, origin.source, origin.system, origin.timeline, origin.slot, annotation)
    )


def _expression(cell: Cell) -> str:
    name = quoted(cell.name)
    if cell.oid == _BYTEA:
        return f"encode({name}, 'hex')"
    return f"{name}::text" if cell.oid == _BOOL else name


def _json(text: bytes) -> bytes:
    """COPY's text, its values escaped as JSON's are."""
    if b'"' in text:
        text = text.replace(b'"', b'\\"')
    if b"\\v" in text or text.translate(None, _ORDINARY):
        text = _ODD.sub(_escaped, text)
    return text


def _escaped(found: re.Match[bytes]) -> bytes:
    sign = found[0]
    if sign[:1] == b"\\":
        return b"\\u000b" if sign == b"\\v" else sign
    return b"\\u%04x" % sign[0]


def _table(table: Table) -> bytes:
    return b',"schema":%b,"table":%b,"columns":' % (_encode(table.schema), _encode(table.name))


def _named(cell: Cell) -> tuple[bytes, bytes]:
    # wal2json takes a type's own quotes for JSON's
    kind = cell.type.encode() if cell.type.startswith('"') else _encode(cell.type)
    return _encode(cell.name), kind
