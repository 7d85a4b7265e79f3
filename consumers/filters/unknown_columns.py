"""Columns that a condition names and no row has: most likely misspelt, for such a condition is never true."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from difflib import get_close_matches

from cdckit.change import Change

logger = logging.getLogger(__name__)

_ENOUGH = 100
"""So many rows are looked at before a column is called unknown."""
_SHOWN = 12


class UnknownColumns:
    """Looks at rows until each column was there once, or enough rows were seen; then says what is missing, once."""

    def __init__(self, columns: Iterable[str] = ()) -> None:
        """`columns` are those that the condition names."""
        self._unknown, self._seen, self._rows = set(columns), set[str](), 0

    @property
    def wanted(self) -> bool:
        """Whether more rows are to be looked at."""
        return bool(self._unknown)

    def look(self, change: Change) -> None:
        """Take in a change of a table that is asked for."""
        row = change.after  # a delete has its key alone, as a rule
        if not self.wanted or row is None:
            return
        self._unknown.difference_update(row)
        self._seen.update(row)
        self._rows += 1
        if self._rows == _ENOUGH:
            self.tell()

    def tell(self) -> None:
        """Warn of what no row had."""
        if self._rows:
            for name in sorted(self._unknown):
                logger.warning("--where: no row of %d has a column %s%s", self._rows, name, self._hint(name))
            self._unknown.clear()

    def _hint(self, name: str) -> str:
        if near := get_close_matches(name, self._seen, 1):
            return f"; {near[0]} is meant?"
        return f"; they have: {', '.join(sorted(self._seen)[:_SHOWN])}"
