"""The replica in a SQLite file: WAL, writers in turns, each commit durable; what SQLite has no number for is text."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

from cdckit.change import Table, Value
from cdckit.errors import PoisonChange, SatelliteError, TransientSinkError
from consumers.replica.dialect import quoted

FILE = "replica.sqlite"
_BUSY_SECONDS = 30
_INTEGERS = {"smallint", "integer", "bigint", "boolean"}
_MOST = 2**63 - 1


class SqliteDialect:
    """``FOLDER/replica.sqlite``. A table of schema ``public`` keeps its name; others are ``schema.name``."""

    def __init__(self, folder: Path) -> None:
        """Open or make the file. Raises SatelliteError."""
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with ExitStack() as on_error:
                self._connection = sqlite3.connect(folder / FILE, timeout=_BUSY_SECONDS, isolation_level=None)
                on_error.callback(self._connection.close)
                self._connection.execute("PRAGMA journal_mode = WAL")
                self._connection.execute("PRAGMA synchronous = FULL")
                on_error.pop_all()
        except sqlite3.Error as error:
            raise SatelliteError(f"{folder / FILE} cannot be opened: {error}", "restore it, or replay anew") from error

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """``BEGIN IMMEDIATE``: begun at once, so that it never fails half-way for a lock."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            if "locked" in str(error) or "busy" in str(error):
                raise TransientSinkError(f"the replica is busy: {error}") from error
            raise SatelliteError(f"the replica in {self.folder} refused: {error}", "see the cause") from error

    def run(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement."""
        return self._connection.execute(statement, values).fetchall()

    def name(self, source: str, table: Table) -> str:
        """``"orders"``, ``"sales.orders"``; of a source that is not ``main``: ``"SOURCE/sales.orders"``."""
        plain = table.name if table.schema == "public" else f"{table.schema}.{table.name}"
        return quoted(plain if source == "main" else f"{source}/{plain}")

    def columns(self, table: str) -> set[str] | None:
        """The columns, or None."""
        found = self.run(f"PRAGMA table_info({table})")
        if found:
            [(held,)] = self.run("SELECT name FROM sqlite_master WHERE lower(name) = lower(?)", (_plain(table),))
            if held != _plain(table):
                raise PoisonChange(f"SQLite cannot tell {table} from {held}")
        return {row[1] for row in found} or None

    def create(self, table: str, columns: Mapping[str, str], key: Iterable[str]) -> None:
        """Make the table. Raises PoisonChange for names that differ from others only by case, which SQLite ignores."""
        if len({name.casefold() for name in columns}) < len(columns):
            raise PoisonChange(f"SQLite cannot tell the columns of {table} apart: {', '.join(columns)}")
        shown = "".join(f", {quoted(name)} {_affinity(kind)}" for name, kind in columns.items())
        self.run(f"CREATE TABLE {table} (_cdc_key TEXT PRIMARY KEY{shown})")
        if indexed := ", ".join(map(quoted, key)):
            self.run(f"CREATE INDEX {quoted(_plain(table) + '_key')} ON {table} ({indexed})")

    def add_column(self, table: str, column: str, pg_type: str) -> None:
        """Add it."""
        if column.casefold() in {name.casefold() for name in self.columns(table) or ()}:
            raise PoisonChange(f"SQLite cannot tell {column!r} from another column of {table}")
        self.run(f"ALTER TABLE {table} ADD COLUMN {quoted(column)} {_affinity(pg_type)}")

    def cell(self, value: Value, pg_type: str) -> Any:  # noqa: ARG002 -- SQLite's cells carry their own type
        """Exact: a Decimal, or an integer beyond 64 bits, is text."""
        if isinstance(value, Decimal):
            return format(value, "f")
        return str(value) if isinstance(value, int) and abs(value) > _MOST else value

    def marker(self, table: str, column: str) -> str:  # noqa: ARG002
        """Always the same."""
        return "?"

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


def _affinity(pg_type: str) -> str:
    return "INTEGER" if pg_type in _INTEGERS else "TEXT"


def _plain(table: str) -> str:
    return table[1:-1].replace('""', '"')
