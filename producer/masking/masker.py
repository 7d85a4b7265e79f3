"""Rewrites rows so that masked values leave the host only as a hash, redacted, as null, or as their last characters.

It works on wal2json's text, before anything else reads that: partition keys, envelopes, oversize objects, dead letters
and logs know nothing but the masked value. Columns, the old row's key and the key's description are all rewritten: a
masked key stays one key, and joins with any other column that is hashed.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from cdckit.change import Table
from cdckit.envelope import UNREADABLE
from cdckit.errors import EnvelopeError, UsageError
from producer.masking.rules import Column, Mask, collides, rule_of
from producer.wal2json import ACTION_AT, DELETE, INSERT, TRUNCATE

_NAMED = re.compile(rb',"schema":("(?:[^"\\]|\\.)*"),"table":("(?:[^"\\]|\\.)*")')
_SHOWN, _ENOUGH = 4, 8
_REDACTED, _NULL, _TEXT = b"[redacted]", msgspec.Raw(b"null"), msgspec.Raw(b'"text"')
_string = msgspec.json.Decoder(str)
_encode = msgspec.json.Encoder().encode
_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_columns = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])


class Masks:
    """The masks in force. False when there are none."""

    def __init__(self, masks: Sequence[Mask] = (), key: bytes = b"") -> None:
        """`key` is that of the HMAC; only the rule ``hash`` needs one."""
        self.masks, self._key = masks, key
        self._mac = hmac.new(key, digestmod="sha256")  # a copy of it takes two thirds of a new one's time
        self._tables: dict[bytes, _TableRules | None] = {}
        self._known: dict[Table, set[str]] = {}

    def know(self, columns: Iterable[Column]) -> None:
        """The columns that the tables have now: a name that is new may be a masked column's new name."""
        self._tables.clear()
        for column in columns:
            self._known.setdefault(column.table, set()).add(column.name)

    def __bool__(self) -> bool:
        """Whether anything is masked."""
        return bool(self.masks)

    def covers(self, table: Table) -> bool:
        """Whether a column of this table may be masked."""
        return any(mask.covers(table) for mask in self.masks)

    def payload(self, payload: bytes) -> bytes:
        """A row message with its masked values in place of the plain ones; of other tables the very same bytes.

        Raises UsageError when the mask would not hide what it is meant to: the row must not leave the host; and
        EnvelopeError when `payload` is no row message (the error shows nothing of it).
        """
        try:
            return self._payload(payload)
        except (*UNREADABLE, KeyError):
            raise EnvelopeError("a row that is to be masked is not wal2json's") from None

    def _payload(self, payload: bytes) -> bytes:
        match = _NAMED.search(payload)
        if match is None:
            return payload
        named = match.group()
        if named not in self._tables:
            table = Table(_string.decode(match[1]), _string.decode(match[2]))
            fresh = _TableRules(table, self.masks, self._known.get(table, set()))
            self._tables[named] = fresh if self.covers(table) else None
        rules = self._tables[named]
        return payload if rules is None else self._masked(payload, rules)

    def rules(self, table: Table, names: Sequence[str], key: Collection[str]) -> Sequence[str | None]:
        """The rule of each of the table's columns, `key` being those of its key.

        Raises UsageError when a mask would not hide what it is meant to, or make keys equal.
        """
        rules = _TableRules(table, self.masks, self._known.get(table, set()))
        rules.check(set(names), whole=True)
        return [rules.of_key(name) if name in key else rules.rule(name) for name in names]

    def value(self, rule: str, raw: bytes) -> msgspec.Raw:
        """What stands for a value (JSON text). A null stays null; equal values stay equal under ``hash``."""
        if raw == b"null" or rule == "null":
            return _NULL
        return msgspec.Raw(b'"%b"' % self.text(rule, raw[1:-1] if raw[:1] == b'"' else raw))

    def text(self, rule: str, text: bytes) -> bytes:
        """As `value`, of a string between its quotes (or a bare number); what returns is between quotes, too."""
        if rule == "redact":
            return _REDACTED
        plain = text if b"\\" not in text else _string.decode(b'"%b"' % text).encode()
        if rule == "hash":
            mac = self._mac.copy()
            mac.update(plain)
            return mac.hexdigest().encode()
        shown = plain.decode()
        return _encode(f"…{shown[-_SHOWN:]}" if len(shown) >= _ENOUGH else "…")[1:-1]

    def _masked(self, payload: bytes, rules: _TableRules) -> bytes:
        parts = _object.decode(payload)
        if payload[ACTION_AT] not in (DELETE, TRUNCATE):
            names = {_string.decode(column["name"]) for column in _columns.decode(parts["columns"])}
            rules.check(names, whole=payload[ACTION_AT] == INSERT)
        for part in ("columns", "identity", "pk"):
            if part in parts:
                parts[part] = msgspec.Raw(_encode(self._part(part, parts[part], rules)))
        return _encode(parts)

    def _part(self, part: str, text: msgspec.Raw, rules: _TableRules) -> Sequence[Mapping[str, msgspec.Raw]]:
        columns = _columns.decode(text)
        for column in columns:
            name = _string.decode(column["name"])
            rule = rules.of_key(name) if part == "pk" else rules.rule(name)
            if rule is None:
                continue
            if "value" in column:
                column["value"] = self.value(rule, bytes(column["value"]))
            if "type" in column and rule != "null":
                column["type"] = _TEXT
        return columns


class _TableRules:
    """One table's rules by column."""

    def __init__(self, table: Table, masks: Sequence[Mask], known: set[str]) -> None:
        self.table, self._masks, self._known = table, masks, known
        self._wanted = {mask.column for mask in masks if mask.exact and mask.covers(table)}
        self._rules: dict[str, str | None] = {}

    def rule(self, column: str) -> str | None:
        if column not in self._rules:
            self._rules[column] = rule_of(self._masks, self.table, column)
        return self._rules[column]

    def of_key(self, column: str) -> str | None:
        """Of a column that is part of the key. Raises UsageError when rows that differ would have one key."""
        rule = self.rule(column)
        if rule not in (None, "hash"):
            raise collides(self.table, column, rule)
        return rule

    def check(self, names: set[str], *, whole: bool) -> None:
        """A masked column that is missing was renamed or dropped, unless an update left it out as unchanged.

        A `whole` row has every column; an update that lacks a masked one may have no column that was never seen.
        """
        missing = self._wanted - names
        if missing and (whole or names - self._known):
            raise UsageError(
                f"{self.table} has no column {min(missing)} any more, which is masked: the row was not published",
                "a renamed column keeps its values: mask the new name too, with a glob where rows with the old one "
                f"still come (like {self.table.schema}.{self.table.name}.*{min(missing)[-4:]}=hash), and start again",
            )
        if not missing:
            self._known |= names
