"""Rows as wal2json prints their inserts, made from COPY's text; pure.

COPY writes each value by its type's output function, as wal2json does, and escapes it almost as JSON does: a backslash,
a tab or a newline have the same escape in both. So a row of the stream is COPY's line, cut at its tabs and put into the
table's template; only quotes, other control characters, nulls and what is no finite number need a look.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from decimal import Decimal

import msgspec

from cdckit.change import Table
from cdckit.envelope import Stamper, decode_row, key_columns
from producer.masking import Masks
from producer.routing import MAX_KEY, Record, Rows, partition_key
from producer.shapes import Cell, Shape, quoted

_BOOL, _BYTEA, _FLOATS = 16, 17, (700, 701, 1700)
_WHOLE = (20, 21, 23, 26)
_BARE = frozenset((_BOOL, *_WHOLE, *_FLOATS))
_NULL = b"\\N"
_ENDLESS = frozenset((b"NaN", b"Infinity", b"-Infinity"))
_ORDINARY = bytes((9, 10, *range(32, 256)))
_ODD = re.compile(rb"\\.|[\x00-\x08\x0b-\x1f]", re.DOTALL)
_encode = msgspec.json.encode
_exact = msgspec.json.Decoder(list[object], float_hook=Decimal)
_raws = msgspec.json.Decoder(list[msgspec.Raw])
Fields = list[bytes]


class Image:
    """Turns a table's rows into records under one stamp."""

    def __init__(self, shape: Shape, source: str, masks: Masks) -> None:
        """`source` begins the partition keys."""
        self.shape, self._source = shape, source
        self._masks = masks if masks.covers(shape.table) else None
        self._floats = [at for at, cell in enumerate(shape.cells) if cell.oid in _FLOATS]
        places = {cell.name: at for at, cell in enumerate(shape.cells)}
        self._key = [(places[name], shape.cells[places[name]].oid in _BARE) for name in shape.key]
        kinds = [cell.oid for cell in shape.keys]
        self._plain_key = bool(kinds) and not set(kinds) & set(_FLOATS)
        self._single_key = self._key[0][0] if len(kinds) == 1 and kinds[0] in _WHOLE else None
        self._prefix = f"{source}/{shape.table}/".encode()
        self._longest = MAX_KEY - len(self._prefix) - 1

    @property
    def select(self) -> str:
        """What is to be copied, column by column."""
        return ", ".join(map(_expression, self.shape.cells))

    def rows(self, lines: Sequence[bytes], under: Under, first: int) -> Rows:
        """What COPY's lines are on the stream; their indexes count from `first`."""
        keys: list[bytes] = []
        datas: list[bytes] = []
        if self._masks is not None:
            for index, payload in enumerate(self.payloads(lines, under), first):
                key, data = self._masked(payload, under, index)
                keys.append(key.encode())
                datas.append(data)
            return Rows(self.shape.table, keys, datas)
        filled, key_of = under.templates(self).filled, self._key_of
        for index, fields in enumerate(self._fields(lines), first):
            keys.append(key_of(fields))
            fields.append(b"%d" % index)
            datas.append(filled(fields))
        return Rows(self.shape.table, keys, datas)

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
            partition_key(self._source, self.shape.table, values), under.splice(payload, index), self.shape.table
        )

    def payloads(self, lines: Sequence[bytes], under: Under) -> Iterator[bytes]:
        """wal2json's text of each row, unstamped."""
        return map(under.bare_templates(self).filled, self._fields(lines))

    def pieces(self, nulls: Collection[int]) -> list[bytes]:
        """The text around the values of a row that is null in these columns, from the table's name to its key."""
        found, text = [], _table(self.shape.table) + b"["
        for at, cell in enumerate(self.shape.cells):
            text += b'%b{"name":%b,"type":%b,"value":' % (b"," if at else b"", *_named(cell))
            if at in nulls:
                text += b"null}"
                continue
            quote = b"" if cell.oid in _BARE else b'"'
            found.append(text + quote)
            text = quote + b"}"
        keys = b",".join(b'{"name":%b,"type":%b}' % _named(cell) for cell in self.shape.keys)
        return [*found, b'%b],"pk":[%b]' % (text, keys)]

    def _fields(self, lines: Sequence[bytes]) -> Iterator[Fields]:
        text = b"".join(lines)
        if b'"' in text or b"\\" in text or text.translate(None, _ORDINARY):
            text = _json(text)
            rows = (line.split(b"\t") for line in text.split(b"\n")[:-1])
        else:  # nothing to escape, and no null
            rows = (line[:-1].split(b"\t") for line in lines)
        if self._floats and (b"NaN" in text or b"Infinity" in text):
            return map(self._finite, rows)
        return rows

    def _finite(self, fields: Fields) -> Fields:
        for at in self._floats:
            if fields[at] in _ENDLESS:
                fields[at] = _NULL
        return fields

    def _key_of(self, fields: Fields) -> bytes:
        """The partition key of a row."""
        if self._single_key is not None:
            return b"%b[%b]" % (self._prefix, fields[self._single_key])
        text = b",".join([fields[at] if bare else b'"%b"' % fields[at] for at, bare in self._key])
        if self._plain_key and b"\\" not in text and len(text) < self._longest:
            return b"%b[%b]" % (self._prefix, text)
        values = dict(zip(self.shape.key, _exact.decode(b"[%b]" % text), strict=True)) if self._key else None
        return partition_key(self._source, self.shape.table, values).encode()

    def _masked(self, payload: bytes, under: Under, index: int) -> tuple[str, bytes]:
        assert self._masks is not None
        hidden = self._masks.payload(payload)
        row = decode_row(hidden)
        key = key_columns(row) if row.pk else None
        return partition_key(self._source, self.shape.table, key), under.splice(hidden, index)


class Under:
    """What all rows of one reading have in common: their place in the log, the time, and the envelope."""

    def __init__(self, stamper: Stamper, lsn: str, moment: str) -> None:
        """`lsn` and `moment` (ISO 8601) are the reading's."""
        stamper.begin(lsn.encode())
        self._stamper = stamper
        self.head = b'{"action":"I","xid":null,"timestamp":%b,"lsn":"%b"' % (_encode(moment), lsn.encode())
        self._stamped: dict[Table, Templates] = {}
        self._bare: dict[Table, Templates] = {}

    def splice(self, payload: bytes, index: int) -> bytes:
        """The payload as a record."""
        return self._stamper.splice(payload, index)

    def templates(self, image: Image) -> Templates:
        """Whole records, the index as the last value."""
        table = image.shape.table
        if table not in self._stamped:
            before, after = self._stamper.splice(b"}", 0).split(b'"index":0', 1)
            self._stamped[table] = Templates(image, self.head, [before + b'"index":', after])
        return self._stamped[table]

    def bare_templates(self, image: Image) -> Templates:
        """wal2json's part alone."""
        table = image.shape.table
        if table not in self._bare:
            self._bare[table] = Templates(image, self.head, [b"}"])
        return self._bare[table]


class Templates:
    """One table's text around the values, by the columns that are null. Not for two threads at once."""

    def __init__(self, image: Image, head: bytes, tail: Sequence[bytes]) -> None:
        """`tail` follows the row's own text, with a value more between its pieces."""
        self._image, self._head, self._tail = image, head, tail
        self._by_nulls: dict[tuple[int, ...], list[bytes]] = {}
        self._whole = self._buffer(())

    def filled(self, fields: Fields) -> bytes:
        """The text with these values in their places."""
        buffer = self._whole
        if _NULL in fields:
            nulls = tuple([at for at, field in enumerate(fields) if field == _NULL])
            if nulls not in self._by_nulls:
                self._by_nulls[nulls] = self._buffer(nulls)
            buffer, fields = self._by_nulls[nulls], [field for field in fields if field != _NULL]
        buffer[1::2] = fields
        return b"".join(buffer)

    def _buffer(self, nulls: Collection[int]) -> list[bytes]:
        """The pieces with a place for a value between each two."""
        first, *more = self._image.pieces(nulls)
        pieces = [self._head + first, *more]
        pieces = [*pieces[:-1], pieces[-1] + self._tail[0], *self._tail[1:]]
        return [part for piece in pieces for part in (piece, b"")][:-1]


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
