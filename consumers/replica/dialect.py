"""What the replica needs of a database; `SqliteDialect` and `PostgresDialect` are two."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from cdckit.change import Table, Value


def quoted(name: str) -> str:
    """An identifier in double quotes, whatever it is (a reserved word, too)."""
    return '"' + name.replace('"', '""') + '"'


class Dialect(Protocol):
    """One open connection. Statements use ``?`` for values."""

    def transaction(self) -> AbstractContextManager[None]:
        """A write transaction, one writer after the other; durable when it ends.

        Raises TransientSinkError when the database is busy or away, SatelliteError on anything else of its own.
        """

    def run(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement; its rows, if it has any."""

    def name(self, source: str, table: Table) -> str:
        """The replica's table of a source's table, quoted."""

    def columns(self, table: str) -> set[str] | None:
        """The columns of a table by its quoted name, or None when there is no such table."""

    def create(self, table: str, columns: Mapping[str, str], key: Iterable[str]) -> None:
        """Make a table: ``_cdc_key`` as primary key, these columns (name to PostgreSQL type), an index on `key`.

        Raises PoisonChange when the database cannot tell its name, or two columns, from others.
        """

    def add_column(self, table: str, column: str, pg_type: str) -> None:
        """Add a column."""

    def cell(self, value: Value, pg_type: str) -> Any:
        """A value as it is stored."""

    def marker(self, table: str, column: str) -> str:
        """The placeholder of a column's value, with what turns it into the column's type."""

    def close(self) -> None:
        """Close the connection."""
