"""The replica in another PostgreSQL: same schemas, names and types. A type that does not exist there becomes text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import psycopg2  # noqa: TID251 -- a target, not the source

from cdckit.change import Table, Value
from cdckit.errors import SatelliteError, TransientSinkError
from cdckit.runtime.settings import mask_password
from consumers.replica.dialect import quoted

_LOCK = 0x636463
"""The advisory lock of writers: a statement that adds a column and one that writes a row cannot deadlock."""
_IDENTIFIER = re.compile(r'"(?:[^"]|"")*"')
_PLACEHOLDER = re.compile(r'"(?:[^"]|"")*"|\?')
_COLUMNS = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_attribute a
WHERE a.attrelid = to_regclass(?) AND a.attnum > 0 AND NOT a.attisdropped
"""


class PostgresDialect:
    """One connection to the target database."""

    def __init__(self, dsn: str) -> None:
        """Connect. Raises SatelliteError that names the server, with its password masked."""
        self._types: dict[tuple[str, str], str] = {}
        try:
            self._connection = psycopg2.connect(dsn, application_name="cdc-replica", connect_timeout=10)
        except psycopg2.Error as error:
            raise SatelliteError(
                f"cannot connect to the replica at {mask_password(dsn)}: {_text(error)}",
                "fix [consumers.replica] dsn in cdc.toml, or start the server",
            ) from error
        self._connection.autocommit = True

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """A transaction that holds an advisory lock, so that writers wait for each other."""
        try:
            self.execute("BEGIN")
            self.execute("SELECT pg_advisory_xact_lock(?)", (_LOCK,))
            try:
                yield
            except BaseException:
                if not self._connection.closed:
                    self.execute("ROLLBACK")
                raise
            self.execute("COMMIT")
        except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
            if self._connection.closed:  # only a restart of this process connects again
                raise SatelliteError(
                    f"the connection to the replica was lost: {_text(error)}", "start the server, then the consumer"
                ) from error
            raise TransientSinkError(f"the replica is busy: {_text(error)}") from error
        except psycopg2.Error as error:
            raise SatelliteError(f"the replica refused a statement: {_text(error)}", "see the cause") from error

    def execute(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows, if any."""
        with self._connection.cursor() as cursor:
            cursor.execute(_PLACEHOLDER.sub(_psycopg_placeholder, statement) if values else statement, values or None)
            return cursor.fetchall() if cursor.description else []

    def table_name(self, source: str, table: Table) -> str:
        """``schema.name``; for a source other than ``main`` the schema is ``SOURCE/schema``."""
        schema = table.schema if source == "main" else f"{source}/{table.schema}"
        return f"{quoted(schema)}.{quoted(table.name)}"

    def columns(self, table: str) -> set[str] | None:
        """The columns of a table, or None when it does not exist."""
        found = self.execute(_COLUMNS, (table,))
        self._types |= {(table, name): kind for name, kind in found}
        return {name for name, _ in found} or None

    def create(self, table: str, columns: Mapping[str, str], key: Iterable[str]) -> None:
        """Create the schema and the table."""
        schema = _IDENTIFIER.match(table)
        assert schema is not None
        self.execute(f"CREATE SCHEMA IF NOT EXISTS {schema[0]}")
        shown = "".join(f", {quoted(name)} {self._existing_type(kind)}" for name, kind in columns.items())
        self.execute(f"CREATE TABLE {table} (_cdc_key text PRIMARY KEY{shown})")
        if indexed := ", ".join(map(quoted, key)):
            self.execute(f"CREATE INDEX ON {table} ({indexed})")
        self.columns(table)

    def add_column(self, table: str, column: str, pg_type: str) -> None:
        """Add a column."""
        self.execute(f"ALTER TABLE {table} ADD COLUMN {quoted(column)} {self._existing_type(pg_type)}")
        self.columns(table)

    def to_parameter(self, value: Value, pg_type: str) -> Any:
        """The value as text, which `placeholder` casts to the column's type."""
        if value is None or isinstance(value, bool):
            return value
        if pg_type == "bytea":
            return f"\\x{value}"
        return format(value, "f") if isinstance(value, Decimal) else str(value)

    def placeholder(self, table: str, column: str) -> str:
        """A placeholder with a cast to the column's type."""
        return f"CAST(? AS {self._types[table, column]})" if (table, column) in self._types else "?"

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _existing_type(self, pg_type: str) -> str:
        [(found,)] = self.execute("SELECT to_regtype(?) IS NOT NULL", (re.sub(r"\(.*?\)", "", pg_type),))
        return pg_type if found else "text"


def _psycopg_placeholder(found: re.Match[str]) -> str:
    return "%s" if found[0] == "?" else found[0].replace("%", "%%")


def _text(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
