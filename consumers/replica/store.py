"""Applies changes to the replica's tables; the table ``cdc_row`` stores the state of each row.

A row's state (its position, where each column comes from) is small and contains no values: those are in the row itself.
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
KEY_COLUMN = "_cdc_key"


class _Stored(msgspec.Struct, array_like=True):
    """A `RowState` without its values."""

    position: str
    deleted: bool
    base: str
    known: list[str]
    fills: dict[str, str]


_decoder = msgspec.json.Decoder(_Stored)


class ReplicaStore:
    """One replica, through one connection. Other processes may write it too, one at a time."""

    def __init__(self, dialect: Dialect) -> None:
        """Create the replica's own two tables. Raises SatelliteError."""
        self._db = dialect
        self._columns: dict[str, set[str]] = {}
        with dialect.transaction():
            for statement in _SCHEMA:
                dialect.execute(statement)

    def apply(self, changes: Iterable[Change]) -> Outcome:
        """Apply the changes in one transaction."""
        outcome = Outcome()
        try:
            with self._db.transaction():
                for change in changes:
                    done = self._truncate(change) if change.op is Op.TRUNCATE else self._change(change)
                    outcome += Outcome(applied=1) if done else Outcome(superseded=1)
        except BaseException:
            self._columns.clear()  # columns that the transaction added do not exist
            raise
        return outcome

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    def _change(self, change: Change) -> bool:
        table_key = (change.source, str(change.table))
        stored = self._stored_state(*table_key, change.key_text)
        merged = merge(stored, change, self._watermark(table_key))
        if merged is None:
            return False
        table = self._db.table_name(change.source, change.table)
        self._ensure_columns(table, change)
        if merged.deleted:
            self._db.execute(f"DELETE FROM {table} WHERE {KEY_COLUMN} = ?", (change.key_text,))
        else:
            self._write(table, change, merged, stored)
        self._store_state((*table_key, change.key_text), merged)
        return True

    def _write(self, table: str, change: Change, merged: RowState, stored: RowState | None) -> None:
        """Write the new values. A column whose value is no longer known becomes NULL."""
        cleared = set() if stored is None else stored.values.keys() - merged.values.keys()
        new: dict[str, Value] = {name: value for name, value in merged.values.items() if value != STORED}
        new |= dict.fromkeys(cleared) | {name: change.key[name] for name in change.key if name not in new}
        names = ", ".join(map(quoted, new))
        placeholders = ", ".join(self._db.placeholder(table, name) for name in new)
        sets = ", ".join(f"{quoted(name)} = excluded.{quoted(name)}" for name in new)
        self._db.execute(
            f"INSERT INTO {table} ({KEY_COLUMN}, {names}) VALUES (?, {placeholders}) "
            f"ON CONFLICT ({KEY_COLUMN}) DO UPDATE SET {sets}",
            (
                change.key_text,
                *(self._db.to_parameter(value, change.types.get(name, "")) for name, value in new.items()),
            ),
        )

    def _truncate(self, change: Change) -> bool:
        table_key, watermark = (change.source, str(change.table)), change.position.sort_key
        if watermark <= self._watermark(table_key):
            return False
        self._db.execute(
            "INSERT INTO cdc_watermark VALUES (?, ?, ?) ON CONFLICT (source, tbl) DO UPDATE SET "
            "position = excluded.position", (*table_key, watermark),
        )  # fmt: skip
        table = self._db.table_name(change.source, change.table)
        older = "SELECT key FROM cdc_row WHERE source = ? AND tbl = ? AND position <= ?"
        if self._known_columns(table) is not None:
            self._db.execute(f"DELETE FROM {table} WHERE {KEY_COLUMN} IN ({older})", (*table_key, watermark))
        self._db.execute("DELETE FROM cdc_row WHERE source = ? AND tbl = ? AND position <= ?", (*table_key, watermark))
        for key, state in self._db.execute("SELECT key, state FROM cdc_row WHERE source = ? AND tbl = ?", table_key):
            self._drop_values_below(table, (*table_key, key), _loaded(state), watermark)
        return True

    def _drop_values_below(self, table: str, where: tuple[str, str, str], stored: RowState, watermark: str) -> None:
        """Clear the columns that a row newer than the truncate still has from before it."""
        lifted = apply_floor(stored, watermark)
        assert lifted is not None
        cleared = stored.values.keys() - lifted.values.keys()
        if cleared:
            sets = ", ".join(f"{quoted(name)} = NULL" for name in cleared)
            self._db.execute(f"UPDATE {table} SET {sets} WHERE {KEY_COLUMN} = ?", (where[2],))
        if lifted != stored:
            self._store_state(where, lifted)

    def _ensure_columns(self, table: str, change: Change) -> None:
        """Create the table, or add the columns that the change has and the table lacks."""
        types: Mapping[str, str] = change.types
        known = self._known_columns(table)
        if known is None:
            self._db.create(table, types, change.key)
            self._columns[table] = {KEY_COLUMN, *types}
            return
        for name in [name for name in types if name not in known]:
            self._db.add_column(table, name, types[name])
            known.add(name)

    def _known_columns(self, table: str) -> set[str] | None:
        if table not in self._columns:
            found = self._db.columns(table)
            if found is None:
                return None
            self._columns[table] = found
        return self._columns[table]

    def _stored_state(self, source: str, table: str, key: str) -> RowState | None:
        query = "SELECT state FROM cdc_row WHERE source = ? AND tbl = ? AND key = ?"
        found = self._db.execute(query, (source, table, key))
        return _loaded(found[0][0]) if found else None

    def _watermark(self, table_key: Sequence[str]) -> str:
        found = self._db.execute("SELECT position FROM cdc_watermark WHERE source = ? AND tbl = ?", table_key)
        return str(found[0][0]) if found else NO_POSITION

    def _store_state(self, where: tuple[str, str, str], state: RowState) -> None:
        stored = _Stored(state.position, state.deleted, state.base, list(state.values), dict(state.fills))
        self._db.execute(
            "INSERT INTO cdc_row VALUES (?, ?, ?, ?, ?) ON CONFLICT (source, tbl, key) DO UPDATE SET "
            "position = excluded.position, state = excluded.state",
            (*where, state.position, msgspec.json.encode(stored).decode()),
        )


def _loaded(text: str) -> RowState:
    stored = _decoder.decode(text)
    return RowState(stored.position, stored.deleted, stored.base, dict.fromkeys(stored.known, STORED), stored.fills)
