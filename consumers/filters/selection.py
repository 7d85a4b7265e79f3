"""Selects the changes to show or replay: from and to, tables, operations, keys, a condition; does no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import fnmatchcase
from functools import lru_cache

from cdckit.change import Change, Op, Table
from consumers.filters.expression import Condition
from consumers.stream.points import Point


@dataclass(frozen=True, slots=True)
class Selection:
    """A range with both ends included, and filters; an empty filter selects everything.

    A glob without a dot matches table names in any schema. A key is its single value, its values joined by commas, or
    its canonical text (``[42]``).
    """

    since: Point = field(default_factory=Point)
    until: Point | None = None
    tables: tuple[str, ...] = ()
    ops: frozenset[Op] = frozenset()
    keys: frozenset[str] = frozenset()
    where: Condition | None = None

    def matches(self, change: Change) -> bool:
        """Whether the change is selected."""
        return (
            self.since.is_at_or_before(change)
            and (self.until is None or not self.until.is_before(change))
            and self.matches_table(change)
            and (not self.ops or change.op in self.ops)
            and (not self.keys or not self.keys.isdisjoint(_key_texts(change)))
            and (self.where is None or self.where.holds(change))
        )

    def matches_table(self, change: Change) -> bool:
        """Whether the change belongs to a selected table."""
        return not self.tables or matches_any(self.tables, change.table)

    def matches_unreadable(self, arrived: datetime) -> bool:
        """Whether to report a record that cannot be read: only its arrival time is known."""
        after = not self.since.by_time or arrived >= self.since.moment
        return after and (self.until is None or not self.until.by_time or arrived <= self.until.moment)

    @property
    def whole(self) -> bool:
        """Whether the range has no end and no filter leaves anything out."""
        return self.until is None and not (self.tables or self.ops or self.keys or self.where)


@lru_cache(maxsize=4096)
def matches_any(globs: Sequence[str], table: Table) -> bool:
    """Whether one of the globs matches the table: ``public.ord*``, or ``ord*`` in any schema."""
    full_name = f"{table.schema}.{table.name}"
    return any(fnmatchcase(full_name if "." in glob else table.name, glob) for glob in globs)


def _key_texts(change: Change) -> tuple[str, str]:
    return ",".join(str(value) for value in change.key.values()), change.key_text
