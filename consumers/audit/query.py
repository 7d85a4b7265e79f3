"""Questions to the audit log: a row's history, the row as of a time, a transaction, who did what, the state it implies.

Each is answered from the SQLite file and from the sealed segments that are still there, in commit order.
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
"""Entries of an answer beyond which their rows' histories are not read."""
_decode = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal).decode


@dataclass(frozen=True, slots=True)
class Event:
    """One entry for people: `changed` maps each column to its old and new value (None: no such value)."""

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
    """Which entries to find; an unset field does not matter. `actor` is the annotation's key of that name."""

    table: Table | None = None
    actor: str | None = None
    column: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    xid: int | None = None
    limit: int = 100

    @property
    def sql(self) -> tuple[str, Mapping[str, object]]:
        """The condition and its values."""
        values = self._values
        return " AND ".join(_CONDITIONS[name] for name in values) or "1", values

    def may_match(self, manifest: SegmentManifest) -> bool:
        """Whether a segment could hold such an entry."""
        values = self._values
        return (
            ("table" not in values or values["table"] in manifest.tables)
            and manifest.newest >= str(values.get("since", ""))
            and ("until" not in values or manifest.oldest < str(values["until"]))
        )

    def matches(self, entry: AuditEntry) -> bool:
        """Whether a sealed entry is meant."""
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
    """One row of one source, by its key's text (``[42]``)."""

    source: str
    table: Table
    key: str


def history(folder: Path, row: RowRef, options: AuditOptions | None = None) -> list[Event]:
    """One row's changes in commit order; before-values from the replica identity, else from the row's own history."""
    with open_log(folder, options) as log:
        return list(_events(_row_entries(log, row)))


def as_of(
    folder: Path, row: RowRef, moment: datetime, options: AuditOptions | None = None
) -> Mapping[str, Value] | None:
    """The row as it was at `moment` (by commit time); None when it did not exist."""
    with open_log(folder, options) as log:
        state: Mapping[str, Value] | None = None
        for entry in _row_entries(log, row):
            if datetime.fromisoformat(entry.commit_time) <= moment:
                state = _step(state, entry)
        return state


def find(folder: Path, wanted: EntryFilter, options: AuditOptions | None = None) -> list[Event]:
    """Find entries, newest first."""
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
    """One transaction's changes, in the order in which they were made."""
    return sorted(find(folder, EntryFilter(xid=xid, limit=1_000_000), options), key=lambda event: event.position)


def current_rows(
    folder: Path, source: str, table: Table, options: AuditOptions | None = None
) -> dict[str, Mapping[str, Value]]:
    """The rows that the log implies exist now, by key text. For tables that fit in memory."""
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
    return remaining_entries(log.segments, (one for one in log.segments.manifests() if wanted.may_match(one)))


def _row_entries(log: AuditLog, row: RowRef) -> Iterator[AuditEntry]:
    where = "source = :source AND tbl = :table AND key IN (:key, '[]') AND (key = :key OR op = 'T')"
    values = {"source": row.source, "table": str(row.table), "key": row.key}
    sealed = sorted(
        (entry for entry in _sealed(log, EntryFilter(table=row.table)) if _is_of(entry, row)),
        key=lambda entry: entry.position,
    )
    # +position: sorted after the search, else SQLite walks the whole source in the order of its positions
    live = log.store.entries(where, values, "+position")
    return heapq.merge(sealed, live, key=lambda entry: entry.position)


def _with_history(log: AuditLog, entries: Iterable[AuditEntry]) -> Iterator[Event]:
    """Each entry's event as the row's own history tells it, every row's history read once."""
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
            continue  # the row did not exist: the truncate is no event of its
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
