"""Cuts a table into ranges of keys of about equal size, from a sample of it; a table without a key into runs of pages.

A range of keys stays the same range whatever happens to the table: what was read of it need not be read again after a
restart. Pages do not (an update moves a row), but a table without a key tells of every change with all its columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from producer.postgres.catalog import Cell, Shape, quoted
from producer.postgres.connection import Source

MOST = 2_000
_SAMPLES_A_RANGE, _PAGES_A_RANGE = 30, 20
Bound = tuple[str, ...] | None


class Range(msgspec.Struct, frozen=True, array_like=True):
    """The rows above `after` and up to `upto` (keys as text; None: no limit). Of pages, the numbers."""

    after: Bound
    upto: Bound


WHOLE = Range(None, None)


def cut(source: Source, shape: Shape, rows_a_range: int) -> list[Range]:
    """Ranges that together are the whole table. Raises SourceError."""
    count = min(MOST, round(shape.rows / rows_a_range))
    if count < 2:
        return [WHOLE]
    bounds = list(_bounds(source, shape, count) if shape.key else _pages(shape, count))
    return [Range(after, upto) for after, upto in zip([None, *bounds], [*bounds, None], strict=True)]


def expected(source: Source, shape: Shape, where: str) -> int:
    """How many rows satisfy an SQL condition (empty: all of them), as the server's planner thinks."""
    if not where:
        return shape.rows
    [(plan,)] = source.query(f"EXPLAIN (FORMAT JSON) SELECT FROM ONLY {shape.table} WHERE ({where}\n)")
    return int(plan[0]["Plan"]["Plan Rows"])


def condition(shape: Shape, part: Range) -> str:
    """SQL for the rows of a range; ``true`` for all."""
    if not shape.key:
        low, high = (None if bound is None else f"ctid >= '({bound[0]},0)'" for bound in (part.after, part.upto))
        parts = [low, high and f"NOT {high}"]
    else:
        names = f"({', '.join(map(quoted, shape.key))})"
        parts = [
            None if part.after is None else f"{names} > {literals(shape.keys, part.after)}",
            None if part.upto is None else f"{names} <= {literals(shape.keys, part.upto)}",
        ]
    return " AND ".join(text for text in parts if text) or "true"


def literals(cells: Sequence[Cell], values: Sequence[str]) -> str:
    """A row of literals of the columns' types."""
    return f"({', '.join(f'{_text(value)}::{cell.type}' for cell, value in zip(cells, values, strict=True))})"


def _bounds(source: Source, shape: Shape, count: int) -> Iterator[tuple[str, ...]]:
    # rows of one page are neighbours: many pages, and of each only some rows
    pages = min(100.0, 100.0 * count * _PAGES_A_RANGE / max(shape.pages, 1))
    rows = min(1.0, count * _SAMPLES_A_RANGE / max(1.0, shape.rows * pages / 100))
    names, shown = (", ".join(part % quoted(name) for name in shape.key) for part in ("%s", "concat(%s)"))
    rows_found = source.query(
        f"SELECT {shown} FROM ONLY {shape.table} TABLESAMPLE SYSTEM ({pages:.6f}) "  # noqa: S608
        f"WHERE random() < {rows:.9f} ORDER BY {names}"
    )
    step, last = max(1, len(rows_found) // count), None
    for row in rows_found[step::step]:
        if row != last:
            yield row
        last = row


def _pages(shape: Shape, count: int) -> Iterator[tuple[str, ...]]:
    step = max(1, shape.pages // count)
    return ((str(page),) for page in range(step, shape.pages, step))


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"  # standard_conforming_strings is on
