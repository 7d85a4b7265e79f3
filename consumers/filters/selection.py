"""Which changes somebody wants to see or to replay: from and to, tables, ops, keys, a condition on the row; pure."""

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
    """Both ends count; what is empty or None asks for nothing.

    A glob without a dot is one of table names in any schema. A key is its one value, its values joined by commas, or
    its canonical text (``[42]``).
    """

    since: Point = field(default_factory=Point)
    until: Point | None = None
    tables: tuple[str, ...] = ()
    ops: frozenset[Op] = frozenset()
    keys: frozenset[str] = frozenset()
    where: Condition | None = None

    def takes(self, change: Change) -> bool:
        """Whether the change is wanted."""
        return (
            self.since.reached(change)
            and (self.until is None or not self.until.passed(change))
            and self.of_table(change)
            and (not self.ops or change.op in self.ops)
            and (not self.keys or not self.keys.isdisjoint(_key_texts(change)))
            and (self.where is None or self.where.holds(change))
        )

    def of_table(self, change: Change) -> bool:
        """Whether the change is of a table that is asked for."""
        return not self.tables or named_by(self.tables, change.table)

    def takes_unreadable(self, arrived: datetime) -> bool:
        """Whether a record that cannot be read is to be told: all that is known of it is when it arrived."""
        after = not self.since.by_time or arrived >= self.since.moment
        return after and (self.until is None or not self.until.by_time or arrived <= self.until.moment)

    @property
    def whole(self) -> bool:
        """Whether nothing of the range is left out, and it has no end."""
        return self.until is None and not (self.tables or self.ops or self.keys or self.where)


@lru_cache(maxsize=4096)
def named_by(globs: Sequence[str], table: Table) -> bool:
    """Whether one of the globs means the table: ``public.ord*``, or ``ord*`` in any schema."""
    full = f"{table.schema}.{table.name}"
    return any(fnmatchcase(full if "." in glob else table.name, glob) for glob in globs)


def _key_texts(change: Change) -> tuple[str, str]:
    return ",".join(str(value) for value in change.key.values()), change.key_text
