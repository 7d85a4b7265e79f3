"""The database interface of the replica; implemented by `SqliteDialect` and `PostgresDialect`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from cdckit.change import Table, Value


def quoted(name: str) -> str:
    """Any name as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


class Dialect(Protocol):
    """One open connection. Statements use ``?`` for parameters."""

    def transaction(self) -> AbstractContextManager[None]:
        """A write transaction; only one writer at a time; durable on exit.

        Raises TransientSinkError when the database is busy or not reachable, SatelliteError for its other errors.
        """

    def execute(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows, if any."""

    def table_name(self, source: str, table: Table) -> str:
        """The quoted name of the replica's copy of a table."""

    def columns(self, table: str) -> set[str] | None:
        """The columns of a table (by its quoted name), or None when the table does not exist."""

    def create(self, table: str, columns: Mapping[str, str], key: Iterable[str]) -> None:
        """Create a table: ``_cdc_key`` as primary key, the columns (name -> PostgreSQL type), an index on `key`.

        Raises PoisonChange when the database cannot distinguish its name, or its columns, from others.
        """

    def add_column(self, table: str, column: str, pg_type: str) -> None:
        """Add a column."""

    def to_parameter(self, value: Value, pg_type: str) -> Any:
        """A value as a statement's parameter."""

    def placeholder(self, table: str, column: str) -> str:
        """The placeholder for a column's value, with a cast to the column's type if that is needed."""

    def close(self) -> None:
        """Close the connection."""
