"""Masks over the columns of rows that were read: a column at a time, before anything else sees its values; pure.

What leaves the host is what `producer.masking.masker` makes of the same row in wal2json's text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from producer.masking.masker import Masks
from producer.postgres.catalog import Cell, Shape

NULL = b"\\N"
"""COPY's null; a value that is this text has two backslashes."""
_TEXT = 25


class Hiding:
    """One table's masked columns. `shape` is how the table looks once they are masked."""

    def __init__(self, shape: Shape, masks: Masks) -> None:
        """Raises UsageError when a mask would not hide what it is meant to."""
        names = [cell.name for cell in shape.cells]
        rules = masks.rules(shape.table, names, shape.key) if masks.covers(shape.table) else [None] * len(names)
        self._masks = masks
        self._rules = [(at, rule) for at, rule in enumerate(rules) if rule is not None]
        cells = [_masked(cell, rule) for cell, rule in zip(shape.cells, rules, strict=True)]
        self.shape = replace(shape, cells=cells)

    def hide(self, columns: list[list[bytes]]) -> None:
        """Put the masked values in place of the plain ones, which are COPY's, escaped as JSON's are."""
        for at, rule in self._rules:
            columns[at] = self._hidden(rule, columns[at])

    def _hidden(self, rule: str, values: Sequence[bytes]) -> list[bytes]:
        if rule == "null":
            return [NULL] * len(values)
        text = self._masks.text
        return [NULL if value == NULL else text(rule, value) for value in values]


def _masked(cell: Cell, rule: str | None) -> Cell:
    return cell if rule in (None, "null") else Cell(cell.name, "text", _TEXT)
