"""Splits a table into key ranges of about equal size, by a sample; a table without a key into ranges of pages.

A key range means the same rows whatever happens to the table: after a restart, finished ranges need not be read again.
Page ranges do not (an update moves a row), but every change of a table without a key carries all columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from cdckit.relation import RelationColumn
from producer.postgres.catalog import SizedRelation, quote_identifier, quote_table
from producer.postgres.connection import Source

MAX_RANGES = 2_000
_SAMPLES_PER_RANGE, _PAGES_PER_RANGE = 30, 20
Bound = tuple[str, ...] | None


class KeyRange(msgspec.Struct, frozen=True, array_like=True):
    """The rows above `after` and up to `up_to`: keys as text, or page numbers; None: no limit."""

    after: Bound
    up_to: Bound


WHOLE_TABLE = KeyRange(None, None)


def split_table(source: Source, relation: SizedRelation, rows_per_range: int) -> list[KeyRange]:
    """Return ranges that together are the whole table. Raises SourceError."""
    count = min(MAX_RANGES, round(relation.rows / rows_per_range))
    if count < 2:
        return [WHOLE_TABLE]
    bounds = list(_bounds(source, relation, count) if relation.key else _pages(relation, count))
    return [KeyRange(after, up_to) for after, up_to in zip([None, *bounds], [*bounds, None], strict=True)]


def estimate_rows(source: Source, relation: SizedRelation, where: str) -> int:
    """Estimate how many rows satisfy an SQL condition (empty: all of them), by the server's planner."""
    if not where:
        return relation.rows
    [(plan,)] = source.query(f"EXPLAIN (FORMAT JSON) SELECT FROM ONLY {quote_table(relation.table)} WHERE ({where}\n)")
    return int(plan[0]["Plan"]["Plan Rows"])


def range_condition(relation: SizedRelation, part: KeyRange) -> str:
    """Return the SQL condition for the rows of a range; ``true`` for all."""
    if not relation.key:
        low, high = (None if bound is None else f"ctid >= '({bound[0]},0)'" for bound in (part.after, part.up_to))
        parts = [low, high and f"NOT {high}"]
    else:
        names = f"({', '.join(map(quote_identifier, relation.key))})"
        parts = [
            None if part.after is None else f"{names} > {row_literal(relation.key_columns, part.after)}",
            None if part.up_to is None else f"{names} <= {row_literal(relation.key_columns, part.up_to)}",
        ]
    return " AND ".join(text for text in parts if text) or "true"


def row_literal(columns: Sequence[RelationColumn], values: Sequence[str]) -> str:
    """Return an SQL row of literals of the columns' types."""
    return f"({', '.join(f'{_text(value)}::{column.type}' for column, value in zip(columns, values, strict=True))})"


def _bounds(source: Source, relation: SizedRelation, count: int) -> Iterator[tuple[str, ...]]:
    # rows of one page are neighbors: sample many pages, and few rows of each
    pages = min(100.0, 100.0 * count * _PAGES_PER_RANGE / max(relation.pages, 1))
    rows = min(1.0, count * _SAMPLES_PER_RANGE / max(1.0, relation.rows * pages / 100))
    names, shown = (", ".join(part % quote_identifier(name) for name in relation.key) for part in ("%s", "concat(%s)"))
    rows_found = source.query(
        f"SELECT {shown} FROM ONLY {quote_table(relation.table)} TABLESAMPLE SYSTEM ({pages:.6f}) "  # noqa: S608
        f"WHERE random() < {rows:.9f} ORDER BY {names}"
    )
    step, last = max(1, len(rows_found) // count), None
    for row in rows_found[step::step]:
        if row != last:
            yield row
        last = row


def _pages(relation: SizedRelation, count: int) -> Iterator[tuple[str, ...]]:
    step = max(1, relation.pages // count)
    return ((str(page),) for page in range(step, relation.pages, step))


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"  # standard_conforming_strings is on
