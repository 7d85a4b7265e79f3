"""Selects the tables to publish by globs over ``schema.table``; pure."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass

from cdckit.change import Table


@dataclass(frozen=True, slots=True)
class TableFilter:
    """Wants a table when a glob of `include` matches (without any: every table) and none of `exclude` does."""

    include: Sequence[str] = ()
    exclude: Sequence[str] = ()

    @classmethod
    def parse(cls, include: str, exclude: str) -> TableFilter:
        """Parse comma-separated globs."""
        return cls(_globs(include), _globs(exclude))

    def wants(self, table: Table) -> bool:
        """True when the table is published."""
        name = f"{table.schema}.{table.name}"
        included = not self.include or any(fnmatch.fnmatchcase(name, glob) for glob in self.include)
        return included and not any(fnmatch.fnmatchcase(name, glob) for glob in self.exclude)


def _globs(text: str) -> Sequence[str]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
