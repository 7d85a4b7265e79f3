"""Rewrites rows so that masked values leave the host only hashed, redacted, as null, or as their last characters.

It rewrites wal2json's text before anything else reads it: partition keys, envelopes, oversized objects, dead letters
and logs contain only the masked value. Columns, the old row's key and the key's description are all rewritten: a
masked key stays one key, and joins with any other hashed column.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from cdckit.change import Table
from cdckit.envelope import DECODE_ERRORS
from cdckit.errors import EnvelopeError, UsageError
from producer.masking.rules import Mask, TableColumn, collides, rule_of
from producer.wal2json import ACTION_OFFSET, DELETE, INSERT, TRUNCATE

_TABLE_NAME = re.compile(rb',"schema":("(?:[^"\\]|\\.)*"),"table":("(?:[^"\\]|\\.)*")')
_SHOWN_CHARACTERS, _MIN_LENGTH_TO_SHOW = 4, 8
_REDACTED, _NULL, _TEXT = b"[redacted]", msgspec.Raw(b"null"), msgspec.Raw(b'"text"')
_string = msgspec.json.Decoder(str)
_encode = msgspec.json.Encoder().encode
_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_columns = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])


class Masker:
    """The masks in force. Falsy when there are none."""

    def __init__(self, masks: Sequence[Mask] = (), key: bytes = b"") -> None:
        """`key` is the HMAC's; only the rule ``hash`` needs one."""
        self.masks, self._key = masks, key
        self._mac = hmac.new(key, digestmod="sha256")  # copying it takes two thirds of the time of a new one
        self._tables: dict[bytes, _TableRules | None] = {}
        self._known: dict[Table, set[str]] = {}

    def set_known_columns(self, columns: Iterable[TableColumn]) -> None:
        """Set the current columns of the tables: an unknown name may be a masked column's new name."""
        self._tables.clear()
        for column in columns:
            self._known.setdefault(column.table, set()).add(column.name)

    def __bool__(self) -> bool:
        """True when anything is masked."""
        return bool(self.masks)

    def covers(self, table: Table) -> bool:
        """True when a mask may match a column of this table."""
        return any(mask.covers(table) for mask in self.masks)

    def mask_payload(self, payload: bytes) -> bytes:
        """Return a row message with its values masked; the same bytes for a table without masks.

        Raises UsageError when a masked column is missing, for then the row must not leave the host, and EnvelopeError
        when `payload` is not a row message (the error shows nothing of it).
        """
        try:
            return self._mask_payload(payload)
        except (*DECODE_ERRORS, KeyError):
            raise EnvelopeError("a row that a mask applies to is not a wal2json message") from None

    def _mask_payload(self, payload: bytes) -> bytes:
        match = _TABLE_NAME.search(payload)
        if match is None:
            return payload
        table_text = match.group()
        if table_text not in self._tables:
            table = Table(_string.decode(match[1]), _string.decode(match[2]))
            known = self._known.get(table, set())
            self._tables[table_text] = _TableRules(table, self.masks, known) if self.covers(table) else None
        rules = self._tables[table_text]
        return payload if rules is None else self._mask_row(payload, rules)

    def column_rules(self, table: Table, names: Sequence[str], key: Collection[str]) -> Sequence[str | None]:
        """Return the rule of each of the table's columns; `key` names the columns of its key.

        Raises UsageError when a masked column is missing, or when a mask would make keys equal.
        """
        rules = _TableRules(table, self.masks, self._known.get(table, set()))
        rules.check(set(names), whole=True)
        return [rules.key_rule(name) if name in key else rules.rule(name) for name in names]

    def mask_value(self, rule: str, raw: bytes) -> msgspec.Raw:
        """Return the masked value (JSON text). A null stays null; equal values stay equal under ``hash``."""
        if raw == b"null" or rule == "null":
            return _NULL
        return msgspec.Raw(b'"%b"' % self.mask_text(rule, raw[1:-1] if raw[:1] == b'"' else raw))

    def mask_text(self, rule: str, text: bytes) -> bytes:
        """As `mask_value`, for the text inside a string's quotes (or a bare number); returns such a text."""
        if rule == "redact":
            return _REDACTED
        plain = text if b"\\" not in text else _string.decode(b'"%b"' % text).encode()
        if rule == "hash":
            mac = self._mac.copy()
            mac.update(plain)
            return mac.hexdigest().encode()
        shown = plain.decode()
        return _encode(f"…{shown[-_SHOWN_CHARACTERS:]}" if len(shown) >= _MIN_LENGTH_TO_SHOW else "…")[1:-1]

    def _mask_row(self, payload: bytes, rules: _TableRules) -> bytes:
        parts = _object.decode(payload)
        if payload[ACTION_OFFSET] not in (DELETE, TRUNCATE):
            names = {_string.decode(column["name"]) for column in _columns.decode(parts["columns"])}
            rules.check(names, whole=payload[ACTION_OFFSET] == INSERT)
        for part in ("columns", "identity", "pk"):
            if part in parts:
                parts[part] = msgspec.Raw(_encode(self._mask_part(part, parts[part], rules)))
        return _encode(parts)

    def _mask_part(self, part: str, text: msgspec.Raw, rules: _TableRules) -> Sequence[Mapping[str, msgspec.Raw]]:
        columns = _columns.decode(text)
        for column in columns:
            name = _string.decode(column["name"])
            rule = rules.key_rule(name) if part == "pk" else rules.rule(name)
            if rule is None:
                continue
            if "value" in column:
                column["value"] = self.mask_value(rule, bytes(column["value"]))
            if "type" in column and rule != "null":
                column["type"] = _TEXT
        return columns


class _TableRules:
    """One table's rules by column."""

    def __init__(self, table: Table, masks: Sequence[Mask], known: set[str]) -> None:
        self.table, self._masks, self._known = table, masks, known
        self._exact_columns = {mask.column for mask in masks if mask.exact and mask.covers(table)}
        self._rules: dict[str, str | None] = {}

    def rule(self, column: str) -> str | None:
        if column not in self._rules:
            self._rules[column] = rule_of(self._masks, self.table, column)
        return self._rules[column]

    def key_rule(self, column: str) -> str | None:
        """Return the rule of a key's column. Raises UsageError when the rule would make different keys equal."""
        rule = self.rule(column)
        if rule not in (None, "hash"):
            raise collides(self.table, column, rule)
        return rule

    def check(self, names: set[str], *, whole: bool) -> None:
        """Raise UsageError when a masked column is missing: it was renamed or dropped.

        A `whole` row has every column. An update may leave one out as unchanged, but then it has no unknown column.
        """
        missing = self._exact_columns - names
        if missing and (whole or names - self._known):
            raise UsageError(
                f"{self.table} has no column {min(missing)} any more, which is masked: the row was not published",
                "a renamed column keeps its values: mask the new name too, with a glob where rows with the old one "
                f"still come (like {self.table.schema}.{self.table.name}.*{min(missing)[-4:]}=hash), and start again",
            )
        if not missing:
            self._known |= names
