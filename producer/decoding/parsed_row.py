"""One row message, parsed: its table, its keys before and after, and how an update of the key is split; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from cdckit.change import Table, Value, key_text
from cdckit.envelope import DECODE_ERRORS, WireRow, decode_row, key_columns, old_key_columns
from cdckit.errors import EnvelopeError
from cdckit.relation import RelationColumn
from producer.decoding.repair import with_key
from producer.wal2json import ACTION_OFFSET, DELETE, TRUNCATE, UPDATE

Key = Mapping[str, Value]
_COPIED = {"lsn", "xid", "timestamp", "schema", "table", "pk"}
_encoder = msgspec.json.Encoder(decimal_format="number")
_raw_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_raw_columns = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])


@dataclass(frozen=True, slots=True)
class ParsedRow:
    """A row message. `old_key` is set when an update changed the key; keys are None for a table without a key."""

    payload: bytes
    row: WireRow
    table: Table
    key: Key | None
    old_key: Key | None = None
    key_changed: bool = False

    @property
    def truncates(self) -> bool:
        """Whether it is a truncate."""
        return self.payload[ACTION_OFFSET] == TRUNCATE

    @property
    def identified(self) -> bool:
        """Whether a delete shows every column of its key."""
        if self.payload[ACTION_OFFSET] != DELETE:
            return True
        shown = {column.name for column in self.row.identity}
        return all(column.name in shown for column in self.row.pk)

    def split(self) -> tuple[bytes, bytes]:
        """Return an update of the key as a delete and an insert, values verbatim. Raises EnvelopeError."""
        try:
            return _split(self.payload, self.row)
        except (*DECODE_ERRORS, KeyError) as error:
            raise EnvelopeError(f"not a wal2json row record: {error}") from error


def parse_row(payload: bytes, row: WireRow, index_key: Sequence[RelationColumn] | None) -> ParsedRow:
    """Find the keys of a decoded row; `index_key` is the key when wal2json prints another one. Raises EnvelopeError."""
    action = payload[ACTION_OFFSET]
    if index_key is not None and action != TRUNCATE:
        payload = with_key(payload, index_key)
        row = decode_row(payload)
    table = Table(row.schema, row.table)
    if action == UPDATE and row.identity:
        old, new = old_key_columns(row), key_columns(row)
        if key_text(old) != key_text(new):
            return ParsedRow(payload, row, table, new if row.pk else None, old if row.pk else None, key_changed=True)
    if not row.pk:  # without a key the table is the partition: order is kept for it as a whole
        return ParsedRow(payload, row, table, None)
    return ParsedRow(payload, row, table, key_columns(row) if row.columns else old_key_columns(row))


def _split(payload: bytes, row: WireRow) -> tuple[bytes, bytes]:
    parts = _raw_object.decode(payload)
    copied = {name: value for name, value in parts.items() if name in _COPIED}
    columns, identity = _raw_columns.decode(parts["columns"]), _raw_columns.decode(parts["identity"])
    new = {column.name: raw for column, raw in zip(row.columns, columns, strict=True)}
    old = {column.name: raw for column, raw in zip(row.identity, identity, strict=True)}
    # under REPLICA IDENTITY FULL the old row has the columns that the new one left out as unchanged TOAST
    if row.pk:
        whole = columns + [raw for name, raw in old.items() if name not in new]
    else:  # all columns are the key, in the table's order, which the old row has
        whole = [new.get(name, raw) for name, raw in old.items()]
    delete = _encoder.encode({"action": "D", **copied, "identity": parts["identity"]})
    insert = _encoder.encode({"action": "I", **copied, "columns": whole})
    return delete, insert
