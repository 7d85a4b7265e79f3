"""Finds a row's table and key in wal2json's text without parsing its columns, where that is plain to see; pure.

Inside a JSON string every quote is escaped, so a bare ``,"schema":`` or ``,"value":`` can only be the object's own: the
text is searched for them. What stands between the two is the same for every row of a table, and is remembered:
``,"schema":"public","table":"orders","columns":[{"name":"id","type":"integer"`` names the table and its first column.
Where that column alone is the primary key, as it mostly is, the key is what follows. Everything else is parsed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cdckit.change import Table
from cdckit.envelope import Row, decode_row
from producer.wal2json import ACTION_AT, UPDATE

_SCHEMA, _VALUE, _PK = b',"schema":', b',"value":', b',"pk":['
_WHOLE_NUMBERS = frozenset(("smallint", "integer", "bigint"))  # their text is canonical: no exponent, no fraction
_HEAD = 48  # action, xid, timestamp and lsn come before, and take more than that
_QUOTE = ord('"')
_MOST_REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class Layout:
    """What the rows of one table with one kind of action have in common.

    `name` begins the table's partition keys, and is None when it is left out. `plain` says that an unquoted key may be
    taken as it stands. `end` is the text that every row ends with; in an update that keeps its key, after `before` and
    the key's value. Where the first column is not the whole key, `end` is what no row ends with.
    """

    table: Table
    name: str | None
    plain: bool
    end: bytes
    before: bytes


_NOWHERE = Layout(Table("", ""), None, plain=False, end=b"\n", before=b"")


class Layouts:
    """The tables seen so far, by the text that names them."""

    def __init__(
        self, name: Callable[[Table], str | None], seen: Callable[[Row], object], plain: Callable[[Table], bool]
    ) -> None:
        """`name` is asked once for each table and its kind of row; `seen` gets the first row of each.

        `plain` says whether the key that a table's rows print is its key.
        """
        self._name, self._seen, self._plain = name, seen, plain
        self._known: dict[bytes, Layout] = {}
        self._text, self._layout = b"\n", _NOWHERE
        """Of the last row: rows come in runs of one table."""

    def key(self, payload: bytes) -> tuple[Layout, bytes] | None:
        """The row's layout and its key's value as JSON text, or None: then only parsing tells.

        Raises EnvelopeError when `payload` is no row message.
        """
        start = payload.find(_SCHEMA, _HEAD)
        if not payload.startswith(self._text, start):
            value = payload.find(_VALUE, start)
            if start < 0 or value < 0:  # a truncate
                return None
            self._recall(payload, payload[start:value])
        layout, value = self._layout, start + len(self._text)
        if payload[value] == _QUOTE:
            key = payload[value : payload.find(b'"', value + 1) + 1]
            if b"\\" in key:
                return None
        elif layout.plain:
            key = payload[value : payload.find(b"}", value)]
        else:
            return None
        end = layout.end if payload[ACTION_AT] != UPDATE else b"%b%b}]%b" % (layout.before, key, layout.end)
        return (layout, key) if payload.endswith(end) else None

    def _recall(self, payload: bytes, text: bytes) -> None:
        """Another table or kind of row than the last one."""
        self._layout = self._known.get(text) or self._learn(text, payload)
        self._text = text + _VALUE

    def _learn(self, text: bytes, payload: bytes) -> Layout:
        row = decode_row(payload)
        self._seen(row)
        table, columns = Table(row.schema, row.table), row.columns or row.identity
        alone = len(row.pk) == 1 and bool(columns) and row.pk[0].name == columns[0].name
        alone = alone and self._plain(table)
        end = payload[payload.rfind(_PK) :] if alone else b"\n"
        first = text[text.rfind(b'[{"name":') :]
        plain = alone and columns[0].type in _WHOLE_NUMBERS
        if len(self._known) >= _MOST_REMEMBERED:
            self._known.clear()
        layout = Layout(table, self._name(table), plain, end, b'],"identity":' + first + _VALUE)
        self._known[text] = layout
        return layout
