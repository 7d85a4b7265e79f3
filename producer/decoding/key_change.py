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
    present = {column.name for column in row.columns}
    # under REPLICA IDENTITY FULL the old row has the columns that the new one left out as unchanged TOAST
    unchanged = [raw for raw, old in zip(identity, row.identity, strict=True) if old.name not in present]
    delete = _encoder.encode({"action": "D", **copied, "identity": parts["identity"]})
    insert = _encoder.encode({"action": "I", **copied, "columns": columns + unchanged})
    return delete, insert
