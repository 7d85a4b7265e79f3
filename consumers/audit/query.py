"""Questions to the audit log: a row's history, the row as of a time, a transaction, the state it implies, its proof."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from cdckit.change import Op, Table, Value
from cdckit.position import Position
from consumers.audit.chain import Break, Entry, first_break
from consumers.audit.store import Store

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
class Verdict:
    """What verification found: entries and chains looked at, and each chain's first bad place."""

    entries: int
    chains: int
    breaks: list[Break] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which entries to find; an unset field does not matter. `actor` is the annotation's key of that name."""

    table: Table | None = None
    actor: str | None = None
    column: str | None = None
    since: datetime | None = None
    xid: int | None = None
    limit: int = 100


def history(folder: Path, table: Table, key: str, source: str = "main") -> list[Event]:
    """One row's changes in commit order; before-values from the replica identity, else from the row's own history."""
    with opened(folder) as store:
        return list(_events(_row_entries(store, source, table, key)))


def as_of(folder: Path, table: Table, key: str, moment: datetime, source: str = "main") -> Mapping[str, Value] | None:
    """The row as it was at `moment` (by commit time); None when it did not exist."""
    with opened(folder) as store:
        state: Mapping[str, Value] | None = None
        for entry in _row_entries(store, source, table, key):
            if datetime.fromisoformat(entry.commit_time) <= moment:
                state = _step(state, entry)
        return state


def find(folder: Path, wanted: Filter) -> list[Event]:
    """Matching entries, newest first. Before-values are those that the replica identity gave."""
    conditions = {
        "tbl = :table": wanted.table and str(wanted.table),
        "json_extract(annotation, '$.actor') = :actor": wanted.actor,
        "commit_time >= :since": wanted.since and wanted.since.astimezone(UTC).isoformat(),
        "xid = :xid": wanted.xid,
        "EXISTS (SELECT 1 FROM json_each(after) e WHERE e.key = :column)": wanted.column,
    }
    used = [condition for condition, value in conditions.items() if value is not None]
    values = dict(zip(("table", "actor", "since", "xid", "column"), conditions.values(), strict=True))
    order = f"position DESC LIMIT {int(wanted.limit)}"
    with opened(folder) as store:
        entries = store.entries(" AND ".join(used) or "1", values, order)
        events = [event for entry in entries for event in _events([entry])]
    return [event for event in events if wanted.column is None or wanted.column in event.changed]


def transaction(folder: Path, xid: int) -> list[Event]:
    """One transaction's changes, in the order in which they were made."""
    return sorted(find(folder, Filter(xid=xid, limit=1_000_000)), key=lambda event: event.position)


def current_rows(folder: Path, source: str, table: Table) -> dict[str, Mapping[str, Value]]:
    """The rows that the log implies exist now, by key text. For tables that fit in memory."""
    rows: dict[str, Mapping[str, Value]] = {}
    with opened(folder) as store:
        for entry in store.entries("source = :source AND tbl = :table", {"source": source, "table": str(table)}):
            if entry.op == Op.TRUNCATE:
                rows.clear()
                continue
            state = _step(rows.get(entry.key), entry)
            if state is None:
                rows.pop(entry.key, None)
            else:
                rows[entry.key] = state
    return rows


def verify(folder: Path) -> Verdict:
    """Recompute every chain. Not covered: entries cut from a chain's end."""
    with opened(folder) as store:
        chains = store.chains()
        found = [first_break(chain, store.linked(chain)) for chain in chains]
        [(count,)] = store.connection.execute("SELECT count(*) FROM entry").fetchall()
    return Verdict(count, len(chains), [one for one in found if one is not None])


@contextmanager
def opened(folder: Path) -> Iterator[Store]:
    """The log, for reading. Raises SatelliteError when there is none."""
    store = Store(folder, create=False)
    try:
        yield store
    finally:
        store.close()


def _row_entries(store: Store, source: str, table: Table, key: str) -> Iterator[Entry]:
    where = "source = :source AND tbl = :table AND key IN (:key, '[]') AND (key = :key OR op = 'T')"
    return store.entries(where, {"source": source, "table": str(table), "key": key})


def _events(entries: Iterable[Entry]) -> Iterator[Event]:
    state: Mapping[str, Value] | None = None
    for entry in entries:
        if entry.op == Op.TRUNCATE and state is None:
            continue  # the row did not exist: the truncate is no event of its
        before = state if state is not None else (_decode(entry.before) if entry.before else None)
        state = _step(state, entry)
        yield Event(
            Position.from_sort_key(entry.position), datetime.fromisoformat(entry.commit_time), Op(entry.op),
            entry.table, entry.key, entry.xid, _decode(entry.annotation) if entry.annotation else None,
            _changed(before, entry), entry.key_change, entry.chain, entry.sequence_number,
        )  # fmt: skip


def _changed(before: Mapping[str, Value] | None, entry: Entry) -> Mapping[str, tuple[Value, Value]]:
    old = before or {}
    if entry.after is None:
        return {name: (value, None) for name, value in old.items()}
    new = _decode(entry.after)
    return {name: (old.get(name), value) for name, value in new.items() if name not in old or old[name] != value}


def _step(state: Mapping[str, Value] | None, entry: Entry) -> Mapping[str, Value] | None:
    if entry.after is None:
        return None
    after: Mapping[str, Value] = _decode(entry.after)
    if entry.op == Op.INSERT:
        return after
    known = _decode(entry.before) if entry.before else {}
    return {**known, **(state or {}), **after}
