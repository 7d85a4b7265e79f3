"""Queries of the audit log: a row's history, a row as of a time, a transaction, changes by who and when, current rows.

    from consumers.audit.query import EntryFilter, RowRef, as_of, find, history

    history(Path(".cdc/audit"), RowRef("main", Table("public", "orders"), "[42]"))
    find(Path(".cdc/audit"), EntryFilter(actor="alice", limit=20))

Every query reads the SQLite file and the sealed segments that have not expired. Results are in commit order unless the
function says otherwise. `options` are the settings ``[consumers.audit]``, needed if they are not the defaults.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from cdckit.change import Op, Table, Value
from cdckit.position import Position
from consumers.audit.log import AuditLog, open_log
from consumers.audit.options import AuditOptions
from consumers.audit.proof.chain import AuditEntry
from consumers.audit.proof.segments import SegmentManifest, remaining_entries

MAX_WITH_HISTORY = 1000
"""Up to this many entries `find` reads the history of each entry's row, for the old values."""
_decode = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal).decode


@dataclass(frozen=True, slots=True)
class Event:
    """One change, for people.

    `changed` maps each column to its old and its new value (None: no value).
    """

    position: Position
    commit_time: datetime
    op: Op
    table: str
    key: str
    xid: int | None
    annotation: Mapping[str, Any] | None
    changed: Mapping[str, tuple[Value, Value]]
    key_change: bool
    shard: str
    sequence_number: str


@dataclass(frozen=True, slots=True)
class EntryFilter:
    """The entries to find; unset fields match all. `actor` is that value of the transaction's annotation."""

    table: Table | None = None
    actor: str | None = None
    column: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    xid: int | None = None
    limit: int = 100

    @property
    def sql(self) -> tuple[str, Mapping[str, object]]:
        """The SQL condition and its parameters."""
        values = self._values
        return " AND ".join(_CONDITIONS[name] for name in values) or "1", values

    def may_match(self, manifest: SegmentManifest) -> bool:
        """Whether a segment may contain matching entries."""
        values = self._values
        return (
            ("table" not in values or values["table"] in manifest.tables)
            and manifest.newest >= str(values.get("since", ""))
            and ("until" not in values or manifest.oldest < str(values["until"]))
        )

    def matches(self, entry: AuditEntry) -> bool:
        """Whether a sealed entry matches."""
        values = self._values
        annotation = _decode(entry.annotation) if entry.annotation and self.actor is not None else {}
        return (
            (self.table is None or entry.table == values["table"])
            and (self.actor is None or annotation.get("actor") == self.actor)
            and (self.since is None or entry.commit_time >= str(values["since"]))
            and (self.until is None or entry.commit_time < str(values["until"]))
            and (self.xid is None or entry.xid == self.xid)
            and (self.column is None or (entry.after is not None and self.column in _decode(entry.after)))
        )

    @property
    def _values(self) -> Mapping[str, object]:
        found: Mapping[str, object] = {
            "table": self.table and str(self.table),
            "actor": self.actor,
            "since": self.since and self.since.astimezone(UTC).isoformat(),
            "until": self.until and self.until.astimezone(UTC).isoformat(),
            "xid": self.xid,
            "column": self.column,
        }
        return {name: value for name, value in found.items() if value is not None}


_CONDITIONS = {
    "table": "tbl = :table",
    "actor": "annotation IS NOT NULL AND json_extract(annotation, '$.actor') = :actor",
    "since": "commit_time >= :since",
    "until": "commit_time < :until",
    "xid": "xid = :xid",
    "column": "EXISTS (SELECT 1 FROM json_each(after) e WHERE e.key = :column)",
}


@dataclass(frozen=True, slots=True)
class RowRef:
    """One row of one source, by the text of its key (``[42]``)."""

    source: str
    table: Table
    key: str


def history(folder: Path, row: RowRef, options: AuditOptions | None = None) -> list[Event]:
    """List the changes of one row, oldest first.

    An old value comes from the replica identity if that contains it, else from the row's earlier changes in the log.

    Args:
        folder: The log's folder (``DATA/audit``).
        row: The row.
        options: The satellite's settings; None for the defaults.

    Returns:
        One event per change; a truncate of the table is one too, if the row existed.

    Raises:
        SatelliteError: There is no log in `folder`, or it cannot be read.

    Example:
        >>> from consumers.audit.query import RowRef, history
        >>> row = RowRef("main", Table("public", "orders"), "[42]")
        >>> [(event.op.value, event.changed["status"]) for event in history(Path(".cdc/audit"), row)]
        [('I', (None, 'new')), ('U', ('new', 'paid'))]

    """
    with open_log(folder, options) as log:
        return list(_events(_row_entries(log, row)))


def as_of(
    folder: Path, row: RowRef, moment: datetime, options: AuditOptions | None = None
) -> Mapping[str, Value] | None:
    """Read one row as it was at a time.

    Args:
        folder: The log's folder (``DATA/audit``).
        row: The row.
        moment: The time, compared with commit times; it needs a time zone.
        options: The satellite's settings; None for the defaults.

    Returns:
        The row's values by column; None if the row did not exist.

    Raises:
        SatelliteError: There is no log in `folder`, or it cannot be read.

    Example:
        >>> from consumers.audit.query import RowRef, as_of
        >>> row = RowRef("main", Table("public", "orders"), "[42]")
        >>> as_of(Path(".cdc/audit"), row, datetime(2026, 1, 1, 0, 0, 1, tzinfo=UTC))
        {'id': 42, 'status': 'new'}

    """
    with open_log(folder, options) as log:
        state: Mapping[str, Value] | None = None
        for entry in _row_entries(log, row):
            if datetime.fromisoformat(entry.commit_time) <= moment:
                state = _step(state, entry)
        return state


def find(folder: Path, wanted: EntryFilter, options: AuditOptions | None = None) -> list[Event]:
    """Find changes by table, actor, column, time or transaction, newest first.

    An old value comes from the replica identity if that contains it. If the result has at most `MAX_WITH_HISTORY`
    entries, missing old values are read from the histories of the rows.

    Args:
        folder: The log's folder (``DATA/audit``).
        wanted: What to find, and the largest number of entries.
        options: The satellite's settings; None for the defaults.

    Returns:
        The matching events, newest first.

    Raises:
        SatelliteError: There is no log in `folder`, or it cannot be read.

    Example:
        >>> from consumers.audit.query import EntryFilter, find
        >>> [(event.key, event.changed) for event in find(Path(".cdc/audit"), EntryFilter(actor="alice"))]
        [('[42]', {'status': ('new', 'paid')})]

    """
    where, values = wanted.sql
    with open_log(folder, options) as log:
        live = log.store.entries(where, values, f"position DESC LIMIT {int(wanted.limit)}")
        sealed = (entry for entry in _sealed(log, wanted) if wanted.matches(entry))
        newest = heapq.nlargest(wanted.limit, [*live, *sealed], key=lambda entry: entry.position)
        events = (
            list(_with_history(log, newest))
            if len(newest) <= MAX_WITH_HISTORY
            else [_event(entry, _before(entry)) for entry in newest]
        )
    return [event for event in events if wanted.column is None or wanted.column in event.changed]


def transaction(folder: Path, xid: int, options: AuditOptions | None = None) -> list[Event]:
    """List the changes of one transaction, in the order in which they were made.

    Args:
        folder: The log's folder (``DATA/audit``).
        xid: The transaction's id.
        options: The satellite's settings; None for the defaults.

    Returns:
        One event per change.

    Raises:
        SatelliteError: There is no log in `folder`, or it cannot be read.

    Example:
        >>> from consumers.audit.query import transaction
        >>> [event.key for event in transaction(Path(".cdc/audit"), 702)]
        ['[42]']

    """
    return sorted(find(folder, EntryFilter(xid=xid, limit=1_000_000), options), key=lambda event: event.position)


def current_rows(
    folder: Path, source: str, table: Table, options: AuditOptions | None = None
) -> dict[str, Mapping[str, Value]]:
    """Read the current rows of one table, as the log's changes imply them. All rows are held in memory.

    Args:
        folder: The log's folder (``DATA/audit``).
        source: The source's id, such as ``main``.
        table: The table.
        options: The satellite's settings; None for the defaults.

    Returns:
        Each row's values, by the text of its key.

    Raises:
        SatelliteError: There is no log in `folder`, or it cannot be read.

    Example:
        >>> from consumers.audit.query import current_rows
        >>> current_rows(Path(".cdc/audit"), "main", Table("public", "orders"))
        {'[42]': {'id': 42, 'status': 'paid'}}

    """
    rows: dict[str, Mapping[str, Value]] = {}
    with open_log(folder, options) as log:
        values = {"source": source, "table": str(table)}
        live = log.store.entries("source = :source AND tbl = :table", values)
        sealed = (entry for entry in _sealed(log, EntryFilter(table=table)) if entry.source == source)
        older = sorted((entry for entry in sealed if entry.table == str(table)), key=lambda entry: entry.position)
        for entry in heapq.merge(older, live, key=lambda entry: entry.position):
            if entry.op == Op.TRUNCATE:
                rows.clear()
                continue
            state = _step(rows.get(entry.key), entry)
            if state is None:
                rows.pop(entry.key, None)
            else:
                rows[entry.key] = state
    return rows


def _sealed(log: AuditLog, wanted: EntryFilter) -> Iterator[AuditEntry]:
    manifests = (manifest for manifest in log.segments.manifests() if wanted.may_match(manifest))
    return remaining_entries(log.segments, manifests)


def _row_entries(log: AuditLog, row: RowRef) -> Iterator[AuditEntry]:
    where = "source = :source AND tbl = :table AND key IN (:key, '[]') AND (key = :key OR op = 'T')"
    values = {"source": row.source, "table": str(row.table), "key": row.key}
    sealed = sorted(
        (entry for entry in _sealed(log, EntryFilter(table=row.table)) if _is_of(entry, row)),
        key=lambda entry: entry.position,
    )
    # "+position": sort after the index search; otherwise SQLite reads the whole source in the order of positions
    live = log.store.entries(where, values, "+position")
    return heapq.merge(sealed, live, key=lambda entry: entry.position)


def _with_history(log: AuditLog, entries: Iterable[AuditEntry]) -> Iterator[Event]:
    """The event of each entry, with old values from its row's history. The history of each row is read once."""
    rows: dict[RowRef, dict[Position, Event]] = {}
    for entry in entries:
        row = RowRef(entry.source, Table.parse(entry.table), entry.key)
        if row not in rows:
            rows[row] = {event.position: event for event in _events(_row_entries(log, row))}
        yield rows[row].get(Position.from_sort_key(entry.position)) or _event(entry, _before(entry))


def _is_of(entry: AuditEntry, row: RowRef) -> bool:
    return (
        entry.source == row.source
        and entry.table == str(row.table)
        and (entry.key == row.key or entry.op == Op.TRUNCATE)
    )


def _events(entries: Iterable[AuditEntry]) -> Iterator[Event]:
    state: Mapping[str, Value] | None = None
    for entry in entries:
        if entry.op == Op.TRUNCATE and state is None:
            continue  # the row did not exist: the truncate did not change it
        before = state if state is not None else _before(entry)
        state = _step(state, entry)
        yield _event(entry, before)


def _event(entry: AuditEntry, before: Mapping[str, Value] | None) -> Event:
    return Event(
        Position.from_sort_key(entry.position), datetime.fromisoformat(entry.commit_time), Op(entry.op),
        entry.table, entry.key, entry.xid, _decode(entry.annotation) if entry.annotation else None,
        _changed(before, entry), entry.key_change, entry.chain, entry.sequence_number,
    )  # fmt: skip


def _before(entry: AuditEntry) -> Mapping[str, Value] | None:
    return _decode(entry.before) if entry.before else None


def _changed(before: Mapping[str, Value] | None, entry: AuditEntry) -> Mapping[str, tuple[Value, Value]]:
    old = before or {}
    if entry.after is None:
        return {name: (value, None) for name, value in old.items()}
    new = _decode(entry.after)
    return {name: (old.get(name), value) for name, value in new.items() if name not in old or old[name] != value}


def _step(state: Mapping[str, Value] | None, entry: AuditEntry) -> Mapping[str, Value] | None:
    if entry.after is None:
        return None
    after: Mapping[str, Value] = _decode(entry.after)
    if entry.op == Op.INSERT:
        return after
    known = _decode(entry.before) if entry.before else {}
    return {**known, **(state or {}), **after}
