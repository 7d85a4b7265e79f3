"""The replica in another PostgreSQL: same schemas, names and types; a type that is not there becomes text."""

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

_LOCK = 0x636463  # one writer after the other, so that a new column and a row never wait for each other
_IDENTIFIER = re.compile(r'"(?:[^"]|"")*"')
_MARK = re.compile(r'"(?:[^"]|"")*"|\?')
_COLUMNS = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_attribute a
WHERE a.attrelid = to_regclass(?) AND a.attnum > 0 AND NOT a.attisdropped
"""


class PostgresDialect:
    """One connection to the target database."""

    def __init__(self, dsn: str) -> None:
        """Connect. Raises SatelliteError that names the server, its password masked."""
        self._types: dict[tuple[str, str], str] = {}
        try:
            self._connection = psycopg2.connect(dsn, application_name="cdc-replica", connect_timeout=10)
        except psycopg2.Error as error:
            raise SatelliteError(
                f"cannot connect to the replica at {mask_password(dsn)}: {_text(error)}", "mend [consumers.replica] dsn"
            ) from error
        self._connection.autocommit = True

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Writers take turns by an advisory lock."""
        try:
            self.run("BEGIN")
            self.run("SELECT pg_advisory_xact_lock(?)", (_LOCK,))
            try:
                yield
            except BaseException:
                if not self._connection.closed:
                    self.run("ROLLBACK")
                raise
            self.run("COMMIT")
        except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
            if self._connection.closed:  # a restart of this process connects anew
                raise SatelliteError(f"the replica went away: {_text(error)}", "is the server up?") from error
            raise TransientSinkError(f"the replica is busy: {_text(error)}") from error
        except psycopg2.Error as error:
            raise SatelliteError(f"the replica refused: {_text(error)}", "see the cause") from error

    def run(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement."""
        with self._connection.cursor() as cursor:
            cursor.execute(_MARK.sub(_mark, statement) if values else statement, values or None)
            return cursor.fetchall() if cursor.description else []

    def name(self, source: str, table: Table) -> str:
        """``schema.name``; of a source that is not ``main``, the schema is ``SOURCE/schema``."""
        schema = table.schema if source == "main" else f"{source}/{table.schema}"
        return f"{quoted(schema)}.{quoted(table.name)}"

    def columns(self, table: str) -> set[str] | None:
        """The columns, or None."""
        found = self.run(_COLUMNS, (table,))
        self._types |= {(table, name): kind for name, kind in found}
        return {name for name, _ in found} or None

    def create(self, table: str, columns: Mapping[str, str], key: Iterable[str]) -> None:
        """Make the schema and the table."""
        schema = _IDENTIFIER.match(table)
        assert schema is not None
        self.run(f"CREATE SCHEMA IF NOT EXISTS {schema[0]}")
        shown = "".join(f", {quoted(name)} {self._known(kind)}" for name, kind in columns.items())
        self.run(f"CREATE TABLE {table} (_cdc_key text PRIMARY KEY{shown})")
        if indexed := ", ".join(map(quoted, key)):
            self.run(f"CREATE INDEX ON {table} ({indexed})")
        self.columns(table)

    def add_column(self, table: str, column: str, pg_type: str) -> None:
        """Add it."""
        self.run(f"ALTER TABLE {table} ADD COLUMN {quoted(column)} {self._known(pg_type)}")
        self.columns(table)

    def cell(self, value: Value, pg_type: str) -> Any:
        """Text, which the marker casts."""
        if value is None or isinstance(value, bool):
            return value
        if pg_type == "bytea":
            return f"\\x{value}"
        return format(value, "f") if isinstance(value, Decimal) else str(value)

    def marker(self, table: str, column: str) -> str:
        """The value cast to the column's type."""
        return f"CAST(? AS {self._types[table, column]})" if (table, column) in self._types else "?"

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _known(self, pg_type: str) -> str:
        [(found,)] = self.run("SELECT to_regtype(?) IS NOT NULL", (re.sub(r"\(.*?\)", "", pg_type),))
        return pg_type if found else "text"


def _mark(found: re.Match[str]) -> str:
    return "%s" if found[0] == "?" else found[0].replace("%", "%%")


def _text(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
