"""Lists, creates and drops logical replication slots over plain SQL."""

from __future__ import annotations

from dataclasses import dataclass

from cdckit.position import Lsn
from producer.postgres.connection import Source
from producer.postgres.errors import translate_errors

_SLOT = """
SELECT plugin, database, active_pid, confirmed_flush_lsn, wal_status,
       pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn),
       (SELECT setting::bigint * 1024 * 1024 FROM pg_settings WHERE name = 'max_slot_wal_keep_size')
FROM pg_replication_slots WHERE slot_name = %s
"""


@dataclass(frozen=True, slots=True)
class Slot:
    """A logical replication slot. `retained` is the size of the WAL that it keeps from removal, in bytes.

    `keep_limit` is max_slot_wal_keep_size in bytes, None when there is no limit.
    """

    name: str
    plugin: str
    database: str
    active_pid: int | None
    confirmed: Lsn
    wal_status: str
    retained: int
    keep_limit: int | None = None


def find_slot(source: Source, name: str) -> Slot | None:
    """Return the slot of this name, or None. Raises SourceError."""
    for plugin, database, pid, confirmed, wal_status, retained, limit in source.query(_SLOT, (name,)):
        confirmed_lsn = Lsn.parse(confirmed) if confirmed else Lsn(0)
        keep_limit = int(limit) if limit is not None and limit > 0 else None
        return Slot(
            name, plugin or "", database or "", pid, confirmed_lsn, wal_status or "", int(retained or 0), keep_limit
        )
    return None


def list_slots(source: Source) -> list[Slot]:
    """Return all logical slots of the server, by name. Raises SourceError."""
    names = source.query("SELECT slot_name FROM pg_replication_slots WHERE slot_type = 'logical' ORDER BY 1")
    return [slot for (name,) in names if (slot := find_slot(source, name)) is not None]


def create_slot(source: Source, name: str) -> None:
    """Create a slot with wal2json. Raises SourceError when the server is not prepared."""
    with translate_errors(f"cannot create the slot {name!r}"):
        source.query("SELECT pg_create_logical_replication_slot(%s, 'wal2json')", (name,))


def drop_slot(source: Source, name: str) -> None:
    """Drop the slot and the changes that it had not delivered. Raises SlotInUse while it is read, SourceError."""
    with translate_errors(f"cannot drop the slot {name!r}"):
        source.query("SELECT pg_drop_replication_slot(%s)", (name,))
