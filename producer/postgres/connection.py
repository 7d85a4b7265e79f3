"""The source of truth over plain SQL: what server it is, whether it can be followed, its slot, its tables."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg2  # noqa: TID251
import psycopg2.extensions  # noqa: TID251
from psycopg2 import errors as pg_errors  # noqa: TID251

from cdckit.change import Table
from cdckit.errors import SlotInUse, SourceError
from cdckit.position import Lsn
from cdckit.runtime.settings import masked

_OPTIONS = "-c timezone=UTC -c datestyle=ISO -c intervalstyle=postgres -c extra_float_digits=3 -c bytea_output=hex"
_NO_KEY = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND n.nspname NOT IN ('pg_catalog', 'information_schema')
  AND (c.relreplident = 'n' OR c.relreplident = 'd'
       AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary))
ORDER BY 1, 2
"""
_COLUMNS = """
SELECT n.nspname, c.relname, a.attname, coalesce(bool_or(a.attnum = ANY (i.indkey)), false)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_index i ON i.indrelid = c.oid AND (i.indisprimary OR i.indisreplident)
WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND n.nspname NOT IN ('pg_catalog', 'information_schema')
GROUP BY n.nspname, c.relname, a.attname, a.attnum ORDER BY n.nspname, c.relname, a.attnum
"""
_SLOT = """
SELECT plugin, database, active_pid, confirmed_flush_lsn, wal_status,
       pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn),
       (SELECT setting::bigint * 1024 * 1024 FROM pg_settings WHERE name = 'max_slot_wal_keep_size')
FROM pg_replication_slots WHERE slot_name = %s
"""
_SERVER = """
SELECT system_identifier, timeline_id, pg_current_wal_lsn(), current_database(), current_setting('server_version'),
       current_setting('wal_level'), current_setting('server_encoding')
FROM pg_control_system(), pg_control_checkpoint()
"""
LINES = 1_000
"""Lines that `Source.copy` hands over at a time, which travel together: more are little faster, and pace worse."""
_PIECE, _MOST_BYTES = 64 * 1024, 512 * 1024


@dataclass(frozen=True, slots=True)
class Server:
    """Which server answers: `system` is its system identifier, which another instance changes; `lsn` its WAL's end."""

    system: str
    timeline: int
    lsn: Lsn
    database: str
    version: str
    wal_level: str
    encoding: str


@dataclass(frozen=True, slots=True)
class Slot:
    """A logical replication slot. `retained` is the WAL that it keeps from removal, in bytes.

    `keep_limit` is max_slot_wal_keep_size in bytes, None when nothing limits it.
    """

    name: str
    plugin: str
    database: str
    active_pid: int | None
    confirmed: Lsn
    wal_status: str
    retained: int
    keep_limit: int | None = None


def parse(dsn: str) -> dict[str, str]:
    """The parts of a connection string or URI. Raises SourceError, which quotes none of it: it may hold a password."""
    try:
        parts: dict[str, str] = psycopg2.extensions.parse_dsn(dsn) if dsn else {}
    except psycopg2.ProgrammingError:
        raise _unusable() from None
    if "@" in parts.get("host", ""):  # a URI's password with an @ of its own: libpq would take its end for the host
        raise _unusable()
    return parts


def join(parts: Mapping[str, str]) -> str:
    """The connection string of these parts. Raises SourceError, which quotes none of them."""
    try:
        return psycopg2.extensions.make_dsn(**parts)
    except (psycopg2.Error, ValueError):
        raise _unusable() from None


def connect(dsn: str, **options: Any) -> psycopg2.extensions.connection:
    """Open a connection. Raises SourceError that names the server (password masked) and what mends it."""
    parse(dsn)
    try:
        connection: psycopg2.extensions.connection = psycopg2.connect(
            dsn, options=_OPTIONS, application_name="cdc-producer", connect_timeout=10, **options
        )
    except psycopg2.OperationalError as error:
        raise _unreachable(dsn, error) from error
    return connection


def _unusable() -> SourceError:
    return SourceError(
        "the connection string cannot be used (it is not shown: it may hold a password)",
        "mend --dsn (CDC_DSN): quote values with blanks (password='…'), in a URI write @ : / # ? of a password as %40 "
        "%3A %2F %23 %3F",
    )


def server_host(dsn: str) -> str:
    """The host that a connection string (or PGHOST) names; empty for a local socket. Raises SourceError."""
    return parse(dsn).get("host") or os.environ.get("PGHOST", "")


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn psycopg2's errors into SourceError at the border; `what` was being done."""
    try:
        yield
    except (pg_errors.ObjectInUse, pg_errors.DuplicateObject) as error:  # the latter: another one just made the slot
        raise SlotInUse(
            f"{what}: {_text(error)}",
            "only one producer may read a slot: stop the other one, or use another --slot",
        ) from error
    except pg_errors.InsufficientPrivilege as error:
        hint = _mend(str(error)) or "the user needs REPLICATION (on RDS: GRANT rds_replication TO user)"
        raise SourceError(f"{what}: {_text(error)}", hint) from error
    except psycopg2.Error as error:
        raise SourceError(f"{what}: {_text(error)}", _mend(str(error))) from error


class _Lines(io.RawIOBase):
    """Takes COPY's text in whatever pieces, and hands whole lines over."""

    def __init__(self, write: Callable[[Sequence[bytes]], object]) -> None:
        self._write, self._lines, self._size, self._rest = write, list[bytes](), 0, b""
        self._broken = False

    def writable(self) -> bool:
        return True

    def write(self, piece: Any) -> int:
        if self._broken:  # the buffer before this would try the same piece again, as it is closed
            return len(piece)
        self._size += len(piece)
        lines = io.BytesIO(self._rest + piece).readlines()  # several times as fast as split
        self._rest = b"" if lines[-1].endswith(b"\n") else lines.pop()
        self._lines += lines
        while len(self._lines) >= LINES or self._size >= _MOST_BYTES:
            self._hand_over()
        return len(piece)

    def end(self) -> None:
        while self._lines:
            self._hand_over()

    def _hand_over(self) -> None:
        lines, self._lines, self._size = self._lines[:LINES], self._lines[LINES:], 0
        if lines:  # there may be part of one only
            self._broken = True  # unless this comes back
            self._write(lines)
            self._broken = False


class Source:
    """One plain SQL connection to the source, in autocommit mode."""

    def __init__(self, dsn: str) -> None:
        """Connect. Raises SourceError."""
        self._connection = connect(dsn)
        self._connection.autocommit = True

    def query(self, statement: str, values: Sequence[object] | None = None) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows, if it has any. Raises SourceError."""
        with translated("the database refused"), self._connection.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

    def copy(self, query: str, write: Callable[[Sequence[bytes]], object]) -> None:
        """COPY a query's rows to `write` as they arrive: lines with their ends, `LINES` or about half a MiB at a time.

        What `write` raises comes out, and it is not called again; close then. Raises SourceError.
        """
        lines = _Lines(write)
        with translated("the database refused"), self._connection.cursor() as cursor:
            buffer = io.BufferedWriter(lines, _PIECE)  # psycopg2 writes each line by itself
            cursor.copy_expert(f"COPY ({query}) TO STDOUT", buffer)
            buffer.flush()
        lines.end()

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

    def server(self) -> Server:
        """Which server this is."""
        with translated("cannot tell which server this is"):
            [(system, timeline, lsn, *rest)] = self.query(_SERVER)
        return Server(str(system), int(timeline), Lsn.parse(lsn), *rest)

    def slot(self, name: str) -> Slot | None:
        """The slot of this name, or None."""
        for plugin, database, pid, confirmed, status, retained, limit in self.query(_SLOT, (name,)):
            flushed = Lsn.parse(confirmed) if confirmed else Lsn(0)
            kept, most = int(retained or 0), int(limit) if limit is not None and limit > 0 else None
            return Slot(name, plugin or "", database or "", pid, flushed, status or "", kept, most)
        return None

    def slots(self) -> list[Slot]:
        """All logical slots of the server, by name."""
        names = self.query("SELECT slot_name FROM pg_replication_slots WHERE slot_type = 'logical' ORDER BY 1")
        return [slot for (name,) in names if (slot := self.slot(name)) is not None]

    def drop_slot(self, name: str) -> None:
        """Drop the slot: what it had not delivered is gone. Raises SlotInUse while somebody reads it, SourceError."""
        with translated(f"cannot drop the slot {name!r}"):
            self.query("SELECT pg_drop_replication_slot(%s)", (name,))

    def create_slot(self, name: str) -> None:
        """Create the slot with wal2json. Raises SourceError when the server is not prepared."""
        with translated(f"cannot create the slot {name!r}"):
            self.query("SELECT pg_create_logical_replication_slot(%s, 'wal2json')", (name,))

    def wal_end(self) -> Lsn:
        """Up to where the WAL is written: what was committed before lies before it."""
        [(lsn,)] = self.query("SELECT pg_current_wal_lsn()")
        return Lsn.parse(lsn)

    def tables_without_key(self) -> list[Table]:
        """Tables whose updates and deletes wal2json drops: no primary key and no replica identity in its place."""
        return [Table(schema, name) for schema, name in self.query(_NO_KEY)]

    def columns(self) -> list[tuple[Table, str, bool]]:
        """Every column of every table that can be decoded, and whether it is part of the table's key."""
        return [(Table(schema, name), column, key) for schema, name, column, key in self.query(_COLUMNS)]

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def _unreachable(dsn: str, error: Exception) -> SourceError:
    where = masked(dsn) or "the server that the PG* variables name"
    hint = _mend(str(error)) or "start it, or mend --dsn (CDC_DSN); for a sandbox: cdcctl local up"
    text, password = _text(error), parse(dsn).get("password")
    return SourceError(
        f"cannot connect to PostgreSQL at {where}: {text.replace(password, '***') if password else text}", hint
    )


def _text(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _mend(text: str) -> str:
    for sign, hint in _HINTS.items():
        if sign in text:
            return hint
    return ""


_HINTS = {
    "may not be used as an output plugin": "ALTER SYSTEM SET output_plugin_libraries = pgoutput, wal2json; "
    "SELECT pg_reload_conf() (on RDS: in the parameter group)",
    'could not access file "wal2json"': "install it on the server: apt-get install postgresql-NN-wal2json (RDS has it)",
    "logical decoding requires wal_level": "ALTER SYSTEM SET wal_level = logical, then restart the server "
    "(on RDS: rds.logical_replication = 1 in the parameter group, then reboot)",
    "all replication slots are in use": "raise max_replication_slots, or drop a slot that nobody reads",
    "number of requested standby connections exceeds": "raise max_wal_senders",
    "password authentication failed": "mend the user or password in --dsn (CDC_DSN)",
    "no pg_hba.conf entry": "allow the connection in pg_hba.conf (replication needs a line too)",
    "does not exist": "create it, or mend the name in --dsn (CDC_DSN) or --slot",
}
