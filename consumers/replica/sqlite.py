"""The replica in a SQLite file: WAL mode, one writer at a time, durable commits. Numbers that SQLite lacks are text."""

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

REPLICA_FILE = "replica.sqlite"
_BUSY_SECONDS = 30
_INTEGERS = {"smallint", "integer", "bigint", "boolean"}
_MAX_INTEGER = 2**63 - 1


class SqliteDialect:
    """``FOLDER/replica.sqlite``. A table of the schema ``public`` keeps its name; others are called ``schema.name``."""

    def __init__(self, folder: Path) -> None:
        """Open the file, or create it. Raises SatelliteError."""
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with ExitStack() as on_error:
                self._connection = sqlite3.connect(folder / REPLICA_FILE, timeout=_BUSY_SECONDS, isolation_level=None)
                on_error.callback(self._connection.close)
                self._connection.execute("PRAGMA journal_mode = WAL")
                self._connection.execute("PRAGMA synchronous = FULL")
                on_error.pop_all()
        except sqlite3.Error as error:
            raise SatelliteError(
                f"{folder / REPLICA_FILE} cannot be opened: {error}",
                "restore it from a copy, or delete it and run: cdcctl replay replica --in-place --from earliest",
            ) from error

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """A transaction that takes the write lock at its begin, so that it cannot fail later for a lock."""
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
            raise SatelliteError(
                f"the replica in {self.folder} refused a statement: {error}", "see the cause"
            ) from error

    def execute(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows, if any."""
        return self._connection.execute(statement, values).fetchall()

    def table_name(self, source: str, table: Table) -> str:
        """``"orders"``, ``"sales.orders"``; for a source other than ``main``: ``"SOURCE/sales.orders"``."""
        plain = table.name if table.schema == "public" else f"{table.schema}.{table.name}"
        return quoted(plain if source == "main" else f"{source}/{plain}")

    def columns(self, table: str) -> set[str] | None:
        """The columns of a table, or None when it does not exist."""
        found = self.execute(f"PRAGMA table_info({table})")
        if found:
            [(stored,)] = self.execute("SELECT name FROM sqlite_master WHERE lower(name) = lower(?)", (_plain(table),))
            if stored != _plain(table):
                raise PoisonChange(f"SQLite cannot tell the table {table} from {stored}: names ignore case")
        return {row[1] for row in found} or None

    def create(self, table: str, columns: Mapping[str, str], key: Iterable[str]) -> None:
        """Create the table. Raises PoisonChange for names that differ only by case, which SQLite ignores."""
        if len({name.casefold() for name in columns}) < len(columns):
            raise PoisonChange(
                f"SQLite cannot tell the columns of {table} apart: {', '.join(columns)}: names ignore case"
            )
        shown = "".join(f", {quoted(name)} {_affinity(kind)}" for name, kind in columns.items())
        self.execute(f"CREATE TABLE {table} (_cdc_key TEXT PRIMARY KEY{shown})")
        if indexed := ", ".join(map(quoted, key)):
            self.execute(f"CREATE INDEX {quoted(_plain(table) + '_key')} ON {table} ({indexed})")

    def add_column(self, table: str, column: str, pg_type: str) -> None:
        """Add a column."""
        if column.casefold() in {name.casefold() for name in self.columns(table) or ()}:
            raise PoisonChange(
                f"SQLite cannot tell the column {column!r} from another column of {table}: names ignore case"
            )
        self.execute(f"ALTER TABLE {table} ADD COLUMN {quoted(column)} {_affinity(pg_type)}")

    def to_parameter(self, value: Value, pg_type: str) -> Any:  # noqa: ARG002 -- SQLite's values carry their own type
        """The exact value: a Decimal, or an integer of more than 64 bits, as text."""
        if isinstance(value, Decimal):
            return format(value, "f")
        return str(value) if isinstance(value, int) and abs(value) > _MAX_INTEGER else value

    def placeholder(self, table: str, column: str) -> str:  # noqa: ARG002
        """A plain placeholder."""
        return "?"

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


def _affinity(pg_type: str) -> str:
    return "INTEGER" if pg_type in _INTEGERS else "TEXT"


def _plain(table: str) -> str:
    return table[1:-1].replace('""', '"')
