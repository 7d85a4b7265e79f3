"""One plain SQL connection to the source database: queries, COPY and transactions."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg2  # noqa: TID251
import psycopg2.extensions  # noqa: TID251

from cdckit.errors import SourceError
from producer.postgres.copy import PIECE_BYTES, LineWriter
from producer.postgres.dsn import parse_dsn
from producer.postgres.errors import translate_errors, unreachable

_SETTINGS: Mapping[str, str] = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "extra_float_digits": "3",
    "bytea_output": "hex",
    "client_encoding": "UTF8",
    "standard_conforming_strings": "on",
    "row_security": "off",  # PostgreSQL then refuses a query whose rows a policy would hide
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
}
"""What rows, texts and waits depend on, whatever the database or the role sets by default."""
_OPTIONS = " ".join(f"-c {name}={value.replace(' ', chr(92) + ' ')}" for name, value in _SETTINGS.items())


def connect(dsn: str, **options: Any) -> psycopg2.extensions.connection:
    """Open a connection. Raises SourceError, which names the server (password masked) and the fix."""
    own = parse_dsn(dsn).get("options", "")
    try:
        connection: psycopg2.extensions.connection = psycopg2.connect(
            dsn, options=f"{own} {_OPTIONS}".strip(), application_name="cdc-producer", connect_timeout=10, **options
        )
    except psycopg2.OperationalError as error:
        raise unreachable(dsn, error) from error
    return connection


class Source:
    """One plain SQL connection to the source, in autocommit mode."""

    def __init__(self, dsn: str) -> None:
        """Connect. Raises SourceError."""
        self._connection = connect(dsn)
        self._connection.autocommit = True
        try:
            self._check_settings()
        except BaseException:
            self.close()
            raise

    def _check_settings(self) -> None:
        """Raises SourceError when a pooler or proxy in between did not pass the session's settings on."""
        names = list(_SETTINGS)
        [found] = self.query(f"SELECT {', '.join(['current_setting(%s)'] * len(names))}", names)
        for name, value in zip(names, found, strict=True):
            if value.lower() != _SETTINGS[name].lower():
                raise SourceError(
                    f"the session's {name} is {value!r}, not {_SETTINGS[name]!r}: something between drops settings",
                    "connect to the database instance itself, not to a pooler or proxy (--dsn, CDC_DSN)",
                )

    def query(self, statement: str, values: Sequence[object] | None = None) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows, if it has any. Raises SourceError."""
        with translate_errors("the database refused"), self._connection.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

    def copy(self, query: str, on_lines: Callable[[Sequence[bytes]], object]) -> None:
        """COPY a query's rows to `on_lines` as they arrive: lines with their ends, in batches (`copy.LineWriter`).

        An exception of `on_lines` propagates, and `on_lines` is not called again; close the connection then.
        Raises SourceError.
        """
        lines = LineWriter(on_lines)
        with translate_errors("the database refused"), self._connection.cursor() as cursor:
            buffer = io.BufferedWriter(lines, PIECE_BYTES)
            cursor.copy_expert(f"COPY ({query}) TO STDOUT", buffer)
            buffer.flush()
        lines.finish()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Run the block's statements in one transaction."""
        self.query("BEGIN")
        try:
            yield
        except BaseException:
            self.query("ROLLBACK")
            raise
        self.query("COMMIT")

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
