"""Warns of columns that a condition names and no row has: the name is probably misspelled, and nothing matches."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from difflib import get_close_matches

from cdckit.change import Change

logger = logging.getLogger(__name__)

_MAX_ROWS = 100
"""A column that this many rows do not have is unknown."""
_MAX_SHOWN = 12


class UnknownColumns:
    """Checks rows until each column was found, or enough rows were checked; then warns once of what is missing."""

    def __init__(self, columns: Iterable[str] = ()) -> None:
        """`columns` are the columns that the condition names."""
        self._unknown, self._seen, self._rows = set(columns), set[str](), 0

    @property
    def needs_rows(self) -> bool:
        """Whether more rows should be checked."""
        return bool(self._unknown)

    def check(self, change: Change) -> None:
        """Checks a change of a selected table."""
        row = change.after  # a delete usually has its key only
        if not self.needs_rows or row is None:
            return
        self._unknown.difference_update(row)
        self._seen.update(row)
        self._rows += 1
        if self._rows == _MAX_ROWS:
            self.warn()

    def warn(self) -> None:
        """Warns of the columns that no row had."""
        if self._rows:
            for name in sorted(self._unknown):
                logger.warning("--where: none of %d rows has a column %s%s", self._rows, name, self._hint(name))
            self._unknown.clear()

    def _hint(self, name: str) -> str:
        if similar := get_close_matches(name, self._seen, 1):
            return f"; did you mean {similar[0]}?"
        return f"; they have: {', '.join(sorted(self._seen)[:_MAX_SHOWN])}"
