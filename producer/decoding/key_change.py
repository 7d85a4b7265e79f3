"""Splits an UPDATE that changes a primary key into a DELETE of the old key and an INSERT of the new one; pure."""

from __future__ import annotations

import msgspec

from cdckit.change import key_text
from cdckit.envelope import DECODE_ERRORS, WireRow, key_columns, old_key_columns
from cdckit.errors import EnvelopeError

_COPIED = {"lsn", "xid", "timestamp", "schema", "table", "pk"}
_encoder = msgspec.json.Encoder(decimal_format="number")
_raw_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_raw_columns = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])


def key_changed(row: WireRow) -> bool:
    """True when the update's old key is not its new one."""
    return bool(row.identity) and key_text(old_key_columns(row)) != key_text(key_columns(row))


def shows_key(row: WireRow) -> bool:
    """True when a delete shows every column of its key."""
    shown = {column.name for column in row.identity}
    return all(column.name in shown for column in row.pk)


def split_update(payload: bytes, row: WireRow) -> tuple[bytes, bytes]:
    """Return the delete and the insert, values verbatim. Raises EnvelopeError."""
    try:
        return _split(payload, row)
    except (*DECODE_ERRORS, KeyError) as error:
        raise EnvelopeError(f"not a wal2json row record: {error}") from error


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
