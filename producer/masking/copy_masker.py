"""Masks rows that COPY read, a column at a time, before anything else sees the values; pure.

The result is what `producer.masking.masker` makes of the same row in wal2json's text.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from cdckit.relation import RelationColumn
from producer.masking.masker import Masker
from producer.postgres.catalog import SizedRelation

NULL = b"\\N"
"""COPY's null; a value with this very text has two backslashes."""
_TEXT = 25


class CopyMasker:
    """Masks the columns of one table. `relation` describes the table after masking."""

    def __init__(self, relation: SizedRelation, masker: Masker) -> None:
        """Raises UsageError when a masked column is missing, or when a mask would make keys equal."""
        names = [column.name for column in relation.columns]
        rules: Sequence[str | None] = [None] * len(names)
        if masker.covers(relation.table):
            rules = masker.column_rules(relation.table, names, relation.key)
        self._masker = masker
        self._rules = [(at, rule) for at, rule in enumerate(rules) if rule is not None]
        columns = [_masked_column(column, rule) for column, rule in zip(relation.columns, rules, strict=True)]
        self.relation = msgspec.structs.replace(relation, columns=columns)

    def mask(self, columns: list[list[bytes]]) -> None:
        """Replace the plain values, which are COPY's with JSON escapes, by the masked ones."""
        for at, rule in self._rules:
            columns[at] = self._masked_values(rule, columns[at])

    def _masked_values(self, rule: str, values: Sequence[bytes]) -> list[bytes]:
        if rule == "null":
            return [NULL] * len(values)
        mask_text = self._masker.mask_text
        return [NULL if value == NULL else mask_text(rule, value) for value in values]


def _masked_column(column: RelationColumn, rule: str | None) -> RelationColumn:
    return column if rule in (None, "null") else RelationColumn(column.number, column.name, "text", _TEXT)
