"""Sinks and changes for tests, of this project and of third-party sinks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cdckit.change import Change, Op, Table, Value
from cdckit.errors import TransientSinkError
from cdckit.position import Lsn, Position
from cdckit.sink import Batch, Outcome, Received, Sink

START = datetime(2026, 1, 1, tzinfo=UTC)


def change(
    op: str | Op,
    key: int | str | Mapping[str, Value] | None = None,
    after: Mapping[str, Value] | None = None,
    *,
    at: int = 1,
    index: int = 0,
    epoch: int = 1,
    table: str = "public.orders",
    before: Mapping[str, Value] | None = None,
    source: str = "main",
    types: Mapping[str, str] | None = None,
    annotation: Mapping[str, object] | None = None,
) -> Change:
    """Make a `Change`.

    Args:
        op: ``I``, ``U``, ``D`` or ``T``.
        key: The key's columns; a scalar is the column ``id``; None for a truncate.
        after: The new values; the key's columns are added.
        at: The commit LSN.
        index: The change's ordinal in its transaction.
        epoch: The epoch of its position.
        table: Its table.
        before: The old row's columns; by default the key of an update or delete.
        source: The id of its source.
        types: The columns' types; by default guessed from the values.
        annotation: Its transaction's annotation.

    Returns:
        The change.

    Example:
        >>> inserted = change("I", 42, {"status": "new"}, at=3)
        >>> inserted.row_id, dict(inserted.after)
        ('main/public.orders/[42]', {'id': 42, 'status': 'new'})

    """
    keys: Mapping[str, Value] = {} if key is None else key if isinstance(key, Mapping) else {"id": key}
    kind = Op(op)
    has_after = kind in (Op.INSERT, Op.UPDATE)
    row = {**keys, **(after or {})} if has_after else None
    old = before if before is not None else (dict(keys) if kind in (Op.UPDATE, Op.DELETE) else None)
    seen = {**(old or {}), **(row or {})}
    return Change(
        op=kind,
        source=source,
        table=Table.parse(table),
        position=Position(epoch, Lsn(at), index),
        commit_time=START + timedelta(seconds=at),
        key=keys,
        after=row,
        before=old,
        types=types if types is not None else {name: _guess(value) for name, value in seen.items()},
        lsn=Lsn(at * 1000 + index),
        xid=700 + at,
        annotation=annotation,
    )


def _guess(value: Value) -> str:
    if isinstance(value, bool):
        return "boolean"
    return {int: "bigint", str: "text", type(None): "text"}.get(type(value), "numeric")


def batch(*changes: Change, shard: str = "shardId-000000000000", first: int = 1) -> Batch:
    """Make a `Batch` of these changes with sequence numbers counted from `first`."""
    return Batch(shard, [Received(item, str(number)) for number, item in enumerate(changes, first)])


def deliver(sink: Sink, *changes: Change, shard: str = "shardId-000000000000", first: int = 1) -> Outcome:
    """Apply the changes as one batch and flush, as most tests of a sink do.

    Example:
        >>> deliver(MemorySink(), change("I", 1, at=2), change("U", 1, {"a": 1}, at=1))
        Outcome(applied=1, superseded=1)

    """
    sink.apply(batch(*changes, shard=shard, first=first))
    return sink.flush()


@dataclass
class MemorySink:
    """A whole satellite in a dict, the simplest correct one: rows by id, positions, truncate watermarks."""

    rows: dict[str, dict[str, Value]] = field(default_factory=dict)
    positions: dict[str, Position] = field(default_factory=dict)
    watermarks: dict[tuple[str, Table], Position] = field(default_factory=dict)
    closed: bool = False
    _pending: Outcome = field(default_factory=Outcome)

    def apply(self, batch: Batch) -> None:
        """Apply at once; a memory sink does not buffer."""
        for change in batch.changes:
            self._pending += Outcome(applied=1) if self._apply(change) else Outcome(superseded=1)

    def flush(self) -> Outcome:
        """Return the outcome since the last flush."""
        done, self._pending = self._pending, Outcome()
        return done

    def close(self) -> None:
        """Set `closed`."""
        self.closed = True

    def _apply(self, change: Change) -> bool:
        scope = (change.source, change.table)
        guard = self.watermarks.get(scope)
        if guard is not None and change.position <= guard:
            return False
        if change.op is Op.TRUNCATE:
            self.watermarks[scope] = change.position
            prefix = f"{change.source}/{change.table}/"
            older = [row for row, at in self.positions.items() if row.startswith(prefix) and at < change.position]
            for row in older:
                self.rows.pop(row, None)
            return True
        held = self.positions.get(change.row_id)
        if held is not None and change.position <= held:
            return False
        self.positions[change.row_id] = change.position
        if change.after is None:
            self.rows.pop(change.row_id, None)
        else:
            base = self.rows.get(change.row_id, {}) if change.op is Op.UPDATE else {}
            self.rows[change.row_id] = {**base, **change.after}
        return True


@dataclass
class FaultySink:
    """A `MemorySink` whose n-th calls of apply or flush raise, for tests of code that drives a sink."""

    apply_errors: Mapping[int, Exception] = field(default_factory=dict)
    flush_errors: Mapping[int, Exception] = field(default_factory=dict)
    inner: MemorySink = field(default_factory=MemorySink)
    applies: int = 0
    flushes: int = 0

    def apply(self, batch: Batch) -> None:
        """Raise the error planned for this call, else apply."""
        self.applies += 1
        if self.applies in self.apply_errors:
            raise self.apply_errors[self.applies]
        self.inner.apply(batch)

    def flush(self) -> Outcome:
        """Raise the error planned for this call, else flush."""
        self.flushes += 1
        if self.flushes in self.flush_errors:
            raise self.flush_errors[self.flushes]
        return self.inner.flush()

    def close(self) -> None:
        """Close the inner sink."""
        self.inner.close()


def transient(*calls: int) -> dict[int, Exception]:
    """Return errors for `FaultySink`: a `TransientSinkError` on each of these calls."""
    return {call: TransientSinkError(f"planned for call {call}") for call in calls}


def scrambled(changes: Iterable[Change], order: Iterable[int]) -> list[Change]:
    """Return the changes at these indexes, repeats allowed: a delivery out of order."""
    history = list(changes)
    return [history[index % len(history)] for index in order]
