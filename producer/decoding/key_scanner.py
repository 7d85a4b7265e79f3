"""Finds a row's table and key in wal2json's text without parsing its columns, where the text allows it; pure.

Inside a JSON string every quote is escaped, so a bare ``,"schema":`` or ``,"value":`` can only be the object's own key.
The text between the two is the same for every row of a table, and is remembered:
``,"schema":"public","table":"orders","columns":[{"name":"id","type":"integer"`` names the table and its first column.
Where that column alone is the primary key, which is the usual case, the key is the value that follows. Every other row
is parsed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cdckit.change import Table
from producer.decoding.repair import decode_repaired
from producer.decoding.table_shapes import ShapeReporter
from producer.wal2json import ACTION_OFFSET, UPDATE

_SCHEMA, _VALUE, _PK = b',"schema":', b',"value":', b',"pk":['
_INTEGER_TYPES = frozenset(("smallint", "integer", "bigint"))  # their text is canonical: no exponent, no fraction
_SEARCH_FROM = 48  # action, xid, timestamp and lsn come first and take more bytes than that
_QUOTE = ord('"')
_MAX_LAYOUTS = 4096


@dataclass(frozen=True, slots=True)
class TableLayout:
    """The text that all rows of one table with one kind of action share.

    `key_prefix` begins the table's partition keys; None for a table that is not published. `bare_key`: an unquoted key
    may be used verbatim. `tail` ends every row; in an update that keeps its key, `identity_head` and the key's value
    come before it. Where the first column is not the whole key, `tail` is a text that no row ends with.
    """

    table: Table
    key_prefix: str | None
    bare_key: bool
    tail: bytes
    identity_head: bytes


_NO_LAYOUT = TableLayout(Table("", ""), None, bare_key=False, tail=b"\n", identity_head=b"")


class KeyScanner:
    """Scans rows for their keys, with a layout per table and kind of row."""

    def __init__(self, key_prefix: Callable[[Table], str | None], shapes: ShapeReporter) -> None:
        """`key_prefix` is called once per table and kind of row; see `TableLayout`. `shapes` gets a row of each."""
        self._key_prefix, self._shapes = key_prefix, shapes
        self._layouts: dict[bytes, TableLayout] = {}
        self._text, self._layout = b"\n", _NO_LAYOUT
        """The last row's layout: rows come in runs of one table."""

    def scan(self, payload: bytes) -> tuple[TableLayout, bytes] | None:
        """Return the row's layout and its key's value as JSON text; None when the row must be parsed.

        Raises EnvelopeError when `payload` is not a row message.
        """
        start = payload.find(_SCHEMA, _SEARCH_FROM)
        if not payload.startswith(self._text, start):
            value = payload.find(_VALUE, start)
            if start < 0 or value < 0:  # a truncate
                return None
            self._switch_layout(payload, payload[start:value])
        layout, value = self._layout, start + len(self._text)
        if payload[value] == _QUOTE:
            key = payload[value : payload.find(b'"', value + 1) + 1]
            if b"\\" in key:
                return None
        elif layout.bare_key:
            key = payload[value : payload.find(b"}", value)]
        else:
            return None
        tail = layout.tail
        if payload[ACTION_OFFSET] == UPDATE:
            tail = b"%b%b}]%b" % (layout.identity_head, key, tail)
        return (layout, key) if payload.endswith(tail) else None

    def _switch_layout(self, payload: bytes, text: bytes) -> None:
        """Use the layout of another table or kind of row than the last one's."""
        self._layout = self._layouts.get(text) or self._learn(text, payload)
        self._text = text + _VALUE

    def _learn(self, text: bytes, payload: bytes) -> TableLayout:
        valid, row = decode_repaired(payload)
        self._shapes.report(row)
        table, columns = Table(row.schema, row.table), row.columns or row.identity
        single_key = len(row.pk) == 1 and bool(columns) and row.pk[0].name == columns[0].name
        single_key = single_key and valid is payload and not self._shapes.special.must_parse(table)
        tail = payload[payload.rfind(_PK) :] if single_key else b"\n"
        first_column = text[text.rfind(b'[{"name":') :]
        bare_key = single_key and columns[0].type in _INTEGER_TYPES
        if len(self._layouts) >= _MAX_LAYOUTS:
            self._layouts.clear()
        identity_head = b'],"identity":' + first_column + _VALUE
        layout = TableLayout(table, self._key_prefix(table), bare_key, tail, identity_head)
        self._layouts[text] = layout
        return layout
