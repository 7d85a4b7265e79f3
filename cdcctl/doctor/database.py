"""The source: can it be followed, will each change of each followed table be decoded, and does its WAL stay bounded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime
from functools import partial

from cdcctl.doctor.finding import Finding, failed, guarded, ok, unknown, warning
from cdckit.change import Table
from cdckit.errors import SourceError
from cdckit.runtime.settings import Settings
from producer.decoding.table_filter import TableFilter
from producer.masking.personal_data import looks_personal
from producer.masking.rules import parse_masks
from producer.postgres.catalog import tables_without_key
from producer.postgres.connection import Source
from producer.postgres.credentials import SourceDsn
from producer.postgres.server import identify_server
from producer.postgres.slot_monitor import evaluate, parse_size
from producer.postgres.slots import find_slot

_OLDEST = 100_000
_LONG_TRANSACTION = 3600
_MAY_REPLICATE = """
SELECT current_user, rolsuper OR rolreplication OR EXISTS (
    SELECT FROM pg_roles r WHERE r.rolname = 'rds_replication' AND pg_has_role(current_user, r.oid, 'member'))
FROM pg_roles WHERE rolname = current_user
"""
_ROOM = """
SELECT current_setting('max_replication_slots')::int - (SELECT count(*) FROM pg_replication_slots),
       current_setting('max_wal_senders')::int - (SELECT count(*) FROM pg_stat_replication)
"""
_FORGOTTEN = """
SELECT slot_name, pg_size_pretty(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)) FROM pg_replication_slots
WHERE NOT active AND NOT temporary AND slot_name <> %s ORDER BY 1
"""
_PEEK = "SELECT count(*) FROM pg_logical_slot_peek_changes(%s, NULL, 1, 'format-version', '2', 'include-lsn', 'on')"
_COLUMNS = """
SELECT n.nspname, c.relname, a.attname FROM pg_attribute a
JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND n.nspname NOT IN ('pg_catalog', 'information_schema')
  AND a.attnum > 0 AND NOT a.attisdropped ORDER BY 1, 2, a.attnum
"""
_MOST_NAMED = 8
_LONGEST = "SELECT pid, extract(epoch FROM now() - xact_start) FROM pg_stat_activity WHERE backend_xid IS NOT NULL"


def check_database(settings: Settings) -> Iterator[Finding]:
    """All findings of the source; when it cannot be reached, that alone."""
    try:
        source = Source(SourceDsn(settings)())
    except SourceError as error:
        yield failed("postgresql", error.message, error.hint)
        return
    with closing(source):
        for name, check in _CHECKS.items():
            yield from guarded(name, partial(check, source))
        for name, judge_it in _BY_SETTINGS.items():
            yield from guarded(name, partial(judge_it, source, settings))


def _server(source: Source) -> Iterator[Finding]:
    server = identify_server(source)
    if int(source.query("SELECT current_setting('server_version_num')")[0][0]) < _OLDEST:
        yield failed("postgresql", f"version {server.version}", "upgrade: 10 or newer is needed, 15 or newer is tested")
    yield ok("postgresql", f"{server.version}, database {server.database}, system {server.system}")
    if server.encoding != "UTF8":
        yield failed("encoding", f"the database is {server.encoding}", "the source must be a UTF8 database")
    if server.wal_level != "logical":
        yield failed(
            "wal_level", server.wal_level, "ALTER SYSTEM SET wal_level = logical, then restart the server "
            "(on RDS: rds.logical_replication = 1 in the parameter group, then reboot)",
        )  # fmt: skip
    else:
        yield ok("wal_level", "logical")


def _role(source: Source) -> Iterator[Finding]:
    [(user, may)] = source.query(_MAY_REPLICATE)
    if may:
        yield ok("replication role", f"{user} may replicate")
    else:
        mend = f'ALTER ROLE "{user}" REPLICATION (on RDS: GRANT rds_replication TO "{user}")'
        yield failed("replication role", f"{user} may not replicate", mend)


def _room(source: Source, settings: Settings) -> Iterator[Finding]:
    [(slots, senders)] = source.query(_ROOM)
    exists = find_slot(source, settings.slot) is not None
    if slots < 1 and not exists:
        yield failed("room", "all replication slots are in use", "raise max_replication_slots, or drop a slot")
    elif senders < 1:
        yield warning("room", "all WAL senders are in use", "raise max_wal_senders")
    else:
        yield ok("room", f"{slots} replication slots and {senders} WAL senders are free")


def _wal2json(source: Source) -> Iterator[Finding]:
    """A temporary slot, decoded once as the producer does: plugin, permission and options in one."""
    name = f"cdc_doctor_{datetime.now(UTC):%H%M%S%f}"
    source.query("SET statement_timeout = '10s'")
    try:
        source.query("SELECT pg_create_logical_replication_slot(%s, 'wal2json', true)", (name,))
        source.query(_PEEK, (name,))
        source.query("SELECT pg_drop_replication_slot(%s)", (name,))
    except SourceError as error:
        if "timeout" in error.message:
            yield unknown("wal2json", "a slot was not ready in 10 s: a transaction is open", "look at pg_stat_activity")
        else:
            yield failed("wal2json", error.message, error.hint)
    else:
        yield ok("wal2json", "loads and speaks format 2")
    finally:
        source.query("RESET statement_timeout")


def _slot(source: Source, settings: Settings) -> Iterator[Finding]:
    slot = find_slot(source, settings.slot)
    if slot is None:
        yield warning("slot", f"there is no slot {settings.slot!r} yet", "cdcctl producer run makes it")
        return
    status = evaluate(slot, parse_size(settings.max_retained_wal))
    if status.level != "ok":
        yield failed("slot", status.text, status.hint)
    elif slot.active_pid is None:
        yield warning("slot", f"{status.text}; nobody reads it", "cdcctl producer run")
    else:
        yield ok("slot", f"{status.text}; read by the process {slot.active_pid}")


def _limit(source: Source) -> Iterator[Finding]:
    [(limit,)] = source.query("SELECT current_setting('max_slot_wal_keep_size', true)")
    if limit in (None, "-1"):
        yield warning(
            "wal limit", "nothing limits the WAL that a slot keeps: a producer that is down for long fills the disk",
            "ALTER SYSTEM SET max_slot_wal_keep_size = '50GB'; SELECT pg_reload_conf() (a share of the disk)",
        )  # fmt: skip
    else:
        yield ok("wal limit", f"max_slot_wal_keep_size = {limit}")


def _others(source: Source, settings: Settings) -> Iterator[Finding]:
    for name, kept in source.query(_FORGOTTEN, (settings.slot,)):
        yield warning(
            "other slots", f"nobody reads the slot {name!r}; it keeps {kept} of WAL", f"cdcctl slot drop {name}"
        )


def _transactions(source: Source) -> Iterator[Finding]:
    for pid, seconds in source.query(_LONGEST):
        if seconds is not None and seconds > _LONG_TRANSACTION:
            text = f"the process {pid} has a transaction open for {float(seconds) / 3600:.1f} h: its WAL cannot go"
            yield warning("open transactions", text, f"SELECT pg_terminate_backend({pid})")


def _tables(source: Source, settings: Settings) -> Iterator[Finding]:
    wanted = TableFilter.parse(settings.table, settings.exclude_table)
    without = [table for table in tables_without_key(source) if wanted.wants(table)]
    for table in without:
        yield failed(
            "tables", f"updates and deletes of {table} are dropped by wal2json: no primary key, no replica identity",
            f"ALTER TABLE {table} REPLICA IDENTITY FULL (or add a primary key; or --exclude-table)",
        )  # fmt: skip
    if not without:
        yield ok("tables", "each followed table has a primary key or a replica identity")


def _personal(source: Source, settings: Settings) -> Iterator[Finding]:
    """By name alone: whoever knows the data decides."""
    wanted = TableFilter.parse(settings.table, settings.exclude_table)
    columns = [(Table(schema, name), column) for schema, name, column in source.query(_COLUMNS)]
    found = looks_personal([one for one in columns if wanted.wants(one[0])], parse_masks(settings.mask))
    if found:
        shown = ", ".join(found[:_MOST_NAMED]) + (
            f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
        )
        yield warning("personal data", f"leaves the host as it is, by its name: {shown}", f"--mask {found[0]}=hash")


def _clock(source: Source) -> Iterator[Finding]:
    before = datetime.now(UTC)
    [(there,)] = source.query("SELECT clock_timestamp()")
    yield clock_finding("clock of postgresql", before, there, datetime.now(UTC))


def clock_finding(name: str, before: datetime, there: datetime, after: datetime, *, exact: float = 0.0) -> Finding:
    """Compare another clock, read between two readings of ours; `exact` is how coarse it is, in seconds."""
    ahead = (there - after).total_seconds() - exact
    behind = (before - there).total_seconds() - exact
    skew = max(ahead, behind, 0.0)
    if skew > 1.0:
        side = "ahead of" if ahead > behind else "behind"
        text = f"{skew:.1f} s {side} this machine's: lags and --since are off by that"
        return warning(name, text, "run chrony or ntpd")
    return ok(name, "agrees with this machine's to a second")


_CHECKS: Mapping[str, Callable[[Source], Iterator[Finding]]] = {
    "postgresql": _server,
    "replication role": _role,
    "wal2json": _wal2json,
    "wal limit": _limit,
    "open transactions": _transactions,
    "clock of postgresql": _clock,
}
_BY_SETTINGS: Mapping[str, Callable[[Source, Settings], Iterator[Finding]]] = {
    "room": _room,
    "slot": _slot,
    "other slots": _others,
    "tables": _tables,
    "personal data": _personal,
}
