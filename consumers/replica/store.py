"""Applies changes to the replica's tables; what is known of each row stands beside them, in ``cdc_row``.

A row's state (its position, where each column comes from) is small and holds no values: those are in the table itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from cdckit.change import Change, Op, Value
from cdckit.rows import NO_POSITION, STORED, RowState, apply_floor, merge
from cdckit.sink import Outcome
from consumers.replica.dialect import Dialect, quoted

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS cdc_row (source TEXT NOT NULL, tbl TEXT NOT NULL, key TEXT NOT NULL, "
    "position TEXT NOT NULL, state TEXT NOT NULL, PRIMARY KEY (source, tbl, key))",
    "CREATE TABLE IF NOT EXISTS cdc_watermark (source TEXT NOT NULL, tbl TEXT NOT NULL, position TEXT NOT NULL, "
    "PRIMARY KEY (source, tbl))",
)
KEY = "_cdc_key"


class _Stored(msgspec.Struct, array_like=True):
    """A `RowState` without values."""

    position: str
    deleted: bool
    base: str
    known: list[str]
    fills: dict[str, str]


_decoder = msgspec.json.Decoder(_Stored)


class Store:
    """One replica over one connection. Other processes may write it at the same time, in turns."""

    def __init__(self, dialect: Dialect) -> None:
        """Make the two tables of its own. Raises SatelliteError."""
        self._db = dialect
        self._columns: dict[str, set[str]] = {}
        with dialect.transaction():
            for statement in _SCHEMA:
                dialect.run(statement)

    def apply(self, changes: Iterable[Change]) -> Outcome:
        """Apply the changes in one transaction."""
        outcome = Outcome()
        try:
            with self._db.transaction():
                for change in changes:
                    done = self._truncate(change) if change.op is Op.TRUNCATE else self._change(change)
                    outcome += Outcome(applied=1) if done else Outcome(superseded=1)
        except BaseException:
            self._columns.clear()  # what the transaction added is gone with it
            raise
        return outcome

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    def _change(self, change: Change) -> bool:
        scope = (change.source, str(change.table))
        held = self._held(*scope, change.key_text)
        merged = merge(held, change, self._floor(scope))
        if merged is None:
            return False
        table = self._db.name(change.source, change.table)
        self._fit(table, change)
        if merged.deleted:
            self._db.run(f"DELETE FROM {table} WHERE {KEY} = ?", (change.key_text,))
        else:
            self._write(table, change, merged, held)
        self._remember((*scope, change.key_text), merged)
        return True

    def _write(self, table: str, change: Change, merged: RowState, held: RowState | None) -> None:
        """Write the new values; a column that is no longer known becomes NULL."""
        gone = set() if held is None else held.values.keys() - merged.values.keys()
        fresh: dict[str, Value] = {name: value for name, value in merged.values.items() if value != STORED}
        fresh |= dict.fromkeys(gone) | {name: change.key[name] for name in change.key if name not in fresh}
        names = ", ".join(map(quoted, fresh))
        marks = ", ".join(self._db.marker(table, name) for name in fresh)
        sets = ", ".join(f"{quoted(name)} = excluded.{quoted(name)}" for name in fresh)
        self._db.run(
            f"INSERT INTO {table} ({KEY}, {names}) VALUES (?, {marks}) ON CONFLICT ({KEY}) DO UPDATE SET {sets}",
            (change.key_text, *(self._db.cell(value, change.types.get(name, "")) for name, value in fresh.items())),
        )

    def _truncate(self, change: Change) -> bool:
        scope, floor = (change.source, str(change.table)), change.position.sort_key
        if floor <= self._floor(scope):
            return False
        self._db.run(
            "INSERT INTO cdc_watermark VALUES (?, ?, ?) ON CONFLICT (source, tbl) DO UPDATE SET "
            "position = excluded.position", (*scope, floor),
        )  # fmt: skip
        table = self._db.name(change.source, change.table)
        older = "SELECT key FROM cdc_row WHERE source = ? AND tbl = ? AND position <= ?"
        if self._known(table) is not None:
            self._db.run(f"DELETE FROM {table} WHERE {KEY} IN ({older})", (*scope, floor))
        self._db.run("DELETE FROM cdc_row WHERE source = ? AND tbl = ? AND position <= ?", (*scope, floor))
        for key, state in self._db.run("SELECT key, state FROM cdc_row WHERE source = ? AND tbl = ?", scope):
            self._lift(table, (*scope, key), _loaded(state), floor)
        return True

    def _lift(self, table: str, where: tuple[str, str, str], held: RowState, floor: str) -> None:
        """A row newer than the truncate loses the columns that it had from before."""
        lifted = apply_floor(held, floor)
        assert lifted is not None
        gone = held.values.keys() - lifted.values.keys()
        if gone:
            sets = ", ".join(f"{quoted(name)} = NULL" for name in gone)
            self._db.run(f"UPDATE {table} SET {sets} WHERE {KEY} = ?", (where[2],))
        if lifted != held:
            self._remember(where, lifted)

    def _fit(self, table: str, change: Change) -> None:
        """The table must have every column that the change tells of."""
        types: Mapping[str, str] = change.types
        known = self._known(table)
        if known is None:
            self._db.create(table, types, change.key)
            self._columns[table] = {KEY, *types}
            return
        for name in [name for name in types if name not in known]:
            self._db.add_column(table, name, types[name])
            known.add(name)

    def _known(self, table: str) -> set[str] | None:
        if table not in self._columns:
            found = self._db.columns(table)
            if found is None:
                return None
            self._columns[table] = found
        return self._columns[table]

    def _held(self, source: str, table: str, key: str) -> RowState | None:
        query = "SELECT state FROM cdc_row WHERE source = ? AND tbl = ? AND key = ?"
        found = self._db.run(query, (source, table, key))
        return _loaded(found[0][0]) if found else None

    def _floor(self, scope: Sequence[str]) -> str:
        found = self._db.run("SELECT position FROM cdc_watermark WHERE source = ? AND tbl = ?", scope)
        return str(found[0][0]) if found else NO_POSITION

    def _remember(self, where: tuple[str, str, str], state: RowState) -> None:
        stored = _Stored(state.position, state.deleted, state.base, list(state.values), dict(state.fills))
        self._db.run(
            "INSERT INTO cdc_row VALUES (?, ?, ?, ?, ?) ON CONFLICT (source, tbl, key) DO UPDATE SET "
            "position = excluded.position, state = excluded.state",
            (*where, state.position, msgspec.json.encode(stored).decode()),
        )


def _loaded(text: str) -> RowState:
    stored = _decoder.decode(text)
    return RowState(stored.position, stored.deleted, stored.base, dict.fromkeys(stored.known, STORED), stored.fills)
