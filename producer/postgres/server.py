"""Identifies the PostgreSQL server: its system identifier, timeline, version and the end of its WAL."""

from __future__ import annotations

from dataclasses import dataclass

from cdckit.position import Lsn
from producer.postgres.connection import Source
from producer.postgres.errors import translate_errors

_SERVER = """
SELECT system_identifier, timeline_id, pg_current_wal_lsn(), current_database(), current_setting('server_version'),
       current_setting('wal_level'), current_setting('server_encoding')
FROM pg_control_system(), pg_control_checkpoint()
"""


@dataclass(frozen=True, slots=True)
class Server:
    """The server behind a connection: `system` is its system identifier (unique per instance), `lsn` its WAL's end."""

    system: str
    timeline: int
    lsn: Lsn
    database: str
    version: str
    wal_level: str
    encoding: str


def identify_server(source: Source) -> Server:
    """Return the server behind this connection. Raises SourceError."""
    with translate_errors("cannot identify the server"):
        [(system, timeline, lsn, *rest)] = source.query(_SERVER)
    return Server(str(system), int(timeline), Lsn.parse(lsn), *rest)


def wal_end(source: Source) -> Lsn:
    """Return the end of the written WAL: everything committed so far is before it. Raises SourceError."""
    [(lsn,)] = source.query("SELECT pg_current_wal_lsn()")
    return Lsn.parse(lsn)
