"""Checks the source: logical replication, the decoding of every published table, and limits on its WAL."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime
from functools import partial

from cdcctl.doctor.finding import Finding, failed, ok, run_check, unknown, warning
from cdckit.change import Table
from cdckit.errors import SourceError
from cdckit.runtime.settings import Settings
from producer.decoding.table_filter import TableFilter
from producer.masking.personal_data import looks_personal
from producer.masking.rules import parse_masks
from producer.postgres.catalog import unfollowable
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
_FREE_SLOTS = """
SELECT current_setting('max_replication_slots')::int - (SELECT count(*) FROM pg_replication_slots),
       current_setting('max_wal_senders')::int - (SELECT count(*) FROM pg_stat_replication)
"""
_INACTIVE_SLOTS = """
SELECT slot_name, pg_size_pretty(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)) FROM pg_replication_slots
WHERE NOT active AND NOT temporary AND slot_name <> %s ORDER BY 1
"""
_DECODE_ONCE = (
    "SELECT count(*) FROM pg_logical_slot_peek_changes(%s, NULL, 1, 'format-version', '2', 'include-lsn', 'on')"
)
_COLUMNS = """
SELECT n.nspname, c.relname, a.attname FROM pg_attribute a
JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND n.nspname NOT IN ('pg_catalog', 'information_schema')
  AND a.attnum > 0 AND NOT a.attisdropped ORDER BY 1, 2, a.attnum
"""
_MAX_NAMED = 8
_LONGEST = "SELECT pid, extract(epoch FROM now() - xact_start) FROM pg_stat_activity WHERE backend_xid IS NOT NULL"


def check_database(settings: Settings) -> Iterator[Finding]:
    """Check the source; when it is unreachable, report only that."""
    try:
        source = Source(SourceDsn(settings)())
    except SourceError as error:
        yield failed("postgresql", error.message, error.hint)
        return
    with closing(source):
        for name, check in _CHECKS.items():
            yield from run_check(name, partial(check, source))
        for name, settings_check in _BY_SETTINGS.items():
            yield from run_check(name, partial(settings_check, source, settings))


def _server(source: Source) -> Iterator[Finding]:
    server = identify_server(source)
    if int(source.query("SELECT current_setting('server_version_num')")[0][0]) < _OLDEST:
        yield failed("postgresql", f"version {server.version}", "upgrade to 15 or newer (10 is the minimum)")
    yield ok("postgresql", f"{server.version}, database {server.database}, system {server.system}")
    if server.encoding != "UTF8":
        yield failed("encoding", f"the database is {server.encoding}", "use a database with encoding UTF8")
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
        fix = f'ALTER ROLE "{user}" REPLICATION (on RDS: GRANT rds_replication TO "{user}")'
        yield failed("replication role", f"{user} may not replicate", fix)


def _free_slots(source: Source, settings: Settings) -> Iterator[Finding]:
    [(slots, senders)] = source.query(_FREE_SLOTS)
    exists = find_slot(source, settings.slot) is not None
    if slots < 1 and not exists:
        yield failed(
            "free slots",
            "all replication slots are in use",
            "raise max_replication_slots, or drop a slot",
        )
    elif senders < 1:
        yield warning("free slots", "all WAL senders are in use", "raise max_wal_senders")
    else:
        yield ok("free slots", f"{slots} replication slots and {senders} WAL senders are free")


def _wal2json(source: Source) -> Iterator[Finding]:
    """Create and decode a temporary slot as the producer does: tests the plugin, the permission and the options."""
    name = f"cdc_doctor_{datetime.now(UTC):%H%M%S%f}"
    source.query("SET statement_timeout = '10s'")
    try:
        source.query("SELECT pg_create_logical_replication_slot(%s, 'wal2json', true)", (name,))
        source.query(_DECODE_ONCE, (name,))
        source.query("SELECT pg_drop_replication_slot(%s)", (name,))
    except SourceError as error:
        if "timeout" in error.message:
            yield unknown("wal2json", "no slot within 10 s: a transaction is open", "find it in pg_stat_activity")
        else:
            yield failed("wal2json", error.message, error.hint)
    else:
        yield ok("wal2json", "loads and supports format 2")
    finally:
        source.query("RESET statement_timeout")


def _slot(source: Source, settings: Settings) -> Iterator[Finding]:
    slot = find_slot(source, settings.slot)
    if slot is None:
        yield warning("slot", f"there is no slot {settings.slot!r} yet", "cdcctl producer run creates it")
        return
    status = evaluate(slot, parse_size(settings.max_retained_wal))
    if status.level != "ok":
        yield failed("slot", status.text, status.hint)
    elif slot.active_pid is None:
        yield warning("slot", f"{status.text}; no process reads it", "cdcctl producer run")
    else:
        yield ok("slot", f"{status.text}; read by process {slot.active_pid}")


def _wal_limit(source: Source) -> Iterator[Finding]:
    [(limit,)] = source.query("SELECT current_setting('max_slot_wal_keep_size', true)")
    if limit in (None, "-1"):
        yield warning(
            "wal limit", "no limit on the WAL that a slot retains: a long outage of the producer fills the disk",
            "ALTER SYSTEM SET max_slot_wal_keep_size = '50GB'; SELECT pg_reload_conf() (choose a share of the disk)",
        )  # fmt: skip
    else:
        yield ok("wal limit", f"max_slot_wal_keep_size = {limit}")


def _other_slots(source: Source, settings: Settings) -> Iterator[Finding]:
    for name, retained in source.query(_INACTIVE_SLOTS, (settings.slot,)):
        yield warning(
            "other slots",
            f"no process reads the slot {name!r}; it retains {retained} of WAL",
            f"cdcctl slot drop {name}",
        )


def _open_transactions(source: Source) -> Iterator[Finding]:
    for pid, seconds in source.query(_LONGEST):
        if seconds is not None and seconds > _LONG_TRANSACTION:
            text = f"process {pid} has a transaction open for {float(seconds) / 3600:.1f} h: WAL is retained for it"
            yield warning("open transactions", text, f"SELECT pg_terminate_backend({pid})")


def _tables(source: Source, settings: Settings) -> Iterator[Finding]:
    published = TableFilter.parse(settings.table, settings.exclude_table)
    found = [relation for relation in unfollowable(source) if published.wants(relation.table)]
    for relation in found:
        yield failed("tables", f"{relation.table}: {relation.problem}", f"{relation.fix} (or --exclude-table)")
    if not found:
        yield ok("tables", "every published table has a primary key or a replica identity")


def _personal_data(source: Source, settings: Settings) -> Iterator[Finding]:
    """Find columns with personal data by their names; the user decides about each."""
    published = TableFilter.parse(settings.table, settings.exclude_table)
    columns = [(Table(schema, name), column) for schema, name, column in source.query(_COLUMNS)]
    found = looks_personal(
        [(table, column) for table, column in columns if published.wants(table)], parse_masks(settings.mask)
    )
    if found:
        shown = ", ".join(found[:_MAX_NAMED]) + (
            f" and {len(found) - _MAX_NAMED} more" if len(found) > _MAX_NAMED else ""
        )
        yield warning("personal data", f"published unmasked, judging by the names: {shown}", f"--mask {found[0]}=hash")


def _clock(source: Source) -> Iterator[Finding]:
    before = datetime.now(UTC)
    [(there,)] = source.query("SELECT clock_timestamp()")
    yield clock_finding("clock of postgresql", before, there, datetime.now(UTC))


def clock_finding(name: str, before: datetime, there: datetime, after: datetime, *, exact: float = 0.0) -> Finding:
    """Compare another clock, read between two readings of this one; `exact` is its resolution in seconds."""
    ahead = (there - after).total_seconds() - exact
    behind = (before - there).total_seconds() - exact
    skew = max(ahead, behind, 0.0)
    if skew > 1.0:
        side = "ahead of" if ahead > behind else "behind"
        text = f"{skew:.1f} s {side} this machine's clock: lags and --since are wrong by that"
        return warning(name, text, "run chrony or ntpd")
    return ok(name, "agrees with this machine's clock within a second")


_CHECKS: Mapping[str, Callable[[Source], Iterator[Finding]]] = {
    "postgresql": _server,
    "replication role": _role,
    "wal2json": _wal2json,
    "wal limit": _wal_limit,
    "open transactions": _open_transactions,
    "clock of postgresql": _clock,
}
_BY_SETTINGS: Mapping[str, Callable[[Source, Settings], Iterator[Finding]]] = {
    "free slots": _free_slots,
    "slot": _slot,
    "other slots": _other_slots,
    "tables": _tables,
    "personal data": _personal_data,
}
