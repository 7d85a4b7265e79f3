"""Parses masks, ``public.users.email=hash``, and checks them against the published columns; pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from cdckit.change import Table, quote_name
from cdckit.errors import UsageError

RULES = ("hash", "redact", "null", "last4")
_PART = r'"(?:[^"]|"")+"|[^".=,\s]+'
_MASK = re.compile(rf"\s*(?:({_PART})\.)?({_PART})\.({_PART})\s*=\s*(\w+)\s*(?:,|$)")
_GLOB = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class Mask:
    """One rule: `schema`, `table` and `column` are globs unless `exact`."""

    schema: str
    table: str
    column: str
    rule: str
    exact: bool

    def covers(self, table: Table) -> bool:
        """True when the mask may match a column of this table."""
        return _matches(table.schema, self.schema, self.exact) and _matches(table.name, self.table, self.exact)

    def matches(self, table: Table, column: str) -> bool:
        """True when it masks this column."""
        return self.covers(table) and _matches(column, self.column, self.exact)

    def __str__(self) -> str:
        parts = (self.schema, self.table, self.column)
        return f"{'.'.join(map(quote_name, parts) if self.exact else parts)}={self.rule}"


@dataclass(frozen=True, slots=True)
class TableColumn:
    """A column of the source; `key`: it is part of the primary key or of the replica identity's index."""

    table: Table
    name: str
    key: bool


def parse_masks(text: str) -> tuple[Mask, ...]:
    """Parse ``public.users.email=hash,*.*.phone=last4``. Raises UsageError.

    ``users.email`` is in the schema public; names in double quotes are exact, others may be globs.
    """
    found, at = list[Mask](), 0
    while text[at:].strip():
        match = _MASK.match(text, at)
        if match is None:
            raise UsageError(
                f"mask cannot be {text[at:].strip()!r}",
                "write it like public.users.email=hash,public.users.phone=last4",
            )
        found.append(_mask(match))
        at = match.end()
    return tuple(found)


def check_masks(masks: Sequence[Mask], columns: Sequence[TableColumn]) -> list[Mask]:
    """Check the masks against the published tables' columns; return the globs that match nothing (yet).

    Raises UsageError when an exact one names no column, or when a rule would make different keys equal.
    """
    unmatched = []
    for mask in masks:
        matching = [column for column in columns if mask.matches(column.table, column.name)]
        if not matching and mask.exact:
            raise UsageError(f"mask {mask}: there is no such column in a published table", _unknown(mask, columns))
        if not matching:
            unmatched.append(mask)
        for column in matching:
            if column.key and mask.rule != "hash" and rule_of(masks, column.table, column.name) == mask.rule:
                raise collides(column.table, column.name, mask.rule)
    return unmatched


def rule_of(masks: Iterable[Mask], table: Table, column: str) -> str | None:
    """Return the rule for a column: that of the first mask that matches."""
    return next((mask.rule for mask in masks if mask.matches(table, column)), None)


def _mask(match: re.Match[str]) -> Mask:
    parts = [match[1] or "public", match[2], match[3]]
    rule = match[4].lower()
    if rule not in RULES:
        raise UsageError(f"mask {match[0].strip(' ,')}: there is no rule {match[4]!r}", f"use {', '.join(RULES)}")
    exact = not any(_GLOB.search(part) for part in parts if not part.startswith('"'))
    schema, table, column = (_plain(part, exact) for part in parts)
    return Mask(schema, table, column, rule, exact)


def _plain(part: str, exact: bool) -> str:
    if not part.startswith('"'):
        return part
    name = part[1:-1].replace('""', '"')
    return name if exact else _GLOB.sub(lambda sign: f"[{sign[0]}]", name)


def _matches(name: str, pattern: str, exact: bool) -> bool:
    return name == pattern if exact else fnmatchcase(name, pattern)


def collides(table: Table, column: str, rule: str) -> UsageError:
    """Return the error for a rule that would make different keys equal."""
    return UsageError(
        f"{table}.{quote_name(column)} is part of the key: as {rule!r}, rows that differ would have one key",
        "mask a key with hash: its values stay distinct and join with other hashed columns",
    )


def _unknown(mask: Mask, columns: Sequence[TableColumn]) -> str:
    table = Table(mask.schema, mask.table)
    known_columns = [column.name for column in columns if column.table == table]
    if known_columns:
        return f"columns of {table}: {', '.join(known_columns)}"
    return "is the table published (--table)? are the names right? partitions have names of their own: use a glob"
