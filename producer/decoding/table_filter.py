"""Which tables are published, by globs over ``schema.table``; pure."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass

from cdckit.change import Table


@dataclass(frozen=True, slots=True)
class TableFilter:
    """Globs over ``schema.table``: published when one of `include` matches (none given: all) and none of `exclude`."""

    include: Sequence[str] = ()
    exclude: Sequence[str] = ()

    @classmethod
    def parse(cls, include: str, exclude: str) -> TableFilter:
        """Read comma-separated globs."""
        return cls(_globs(include), _globs(exclude))

    def wants(self, table: Table) -> bool:
        """Whether the table is published."""
        name = f"{table.schema}.{table.name}"
        included = not self.include or any(fnmatch.fnmatchcase(name, glob) for glob in self.include)
        return included and not any(fnmatch.fnmatchcase(name, glob) for glob in self.exclude)


def _globs(text: str) -> Sequence[str]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
