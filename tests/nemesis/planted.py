"""Bugs that break one law each, to be planted into the real parts: the checker must find them. Nothing shipped has one.

A bug is a set of replacements, made by `setattr` in a process of its own or by pytest's monkeypatch in a test.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec import structs

from cdckit.change import Change, Op
from cdckit.position import Lsn
from cdckit.rows import NO_POSITION, RowState, merge
from consumers.kcl import processor
from consumers.parquet.write.changelog import ChangeLog
from consumers.search.sqlite import write_buffer
from consumers.worker.shard import Portion, ShardWorker
from producer.ack_tracker import AckTracker
from producer.kinesis.batching.key_limiter import KeyLimiter

Set = Callable[[Any, str, Any], None]


def plant(bug: str, put: Set) -> None:
    """Plant it, none where it has no name; `put` is `setattr`, or something that can undo it."""
    if bug:
        BUGS[bug](put)


def acknowledges_early(put: Set) -> None:
    """Law 1: what was read is acknowledged, whether the stream has it or not."""

    def advance(self: AckTracker) -> Lsn:
        ends = [group.end for group in self._groups if group.end is not None]
        if ends:
            self.flushed = max(self.flushed, self._position(ends[-1]))
        return whole(self)

    whole = AckTracker.advance
    put(AckTracker, "advance", advance)


def checkpoints_early(put: Set) -> None:
    """Law 2: the checkpoint names what was applied, and not yet flushed."""

    def apply(self: ShardWorker, portion: Portion) -> None:
        whole(self, portion)
        self._since_checkpoint.reached = self._since_flush.last

    whole = ShardWorker._apply
    put(ShardWorker, "_apply", apply)
    put(ShardWorker, "_must_checkpoint", lambda self: self._since_checkpoint.reached is not None)


def sends_a_key_twice_at_once(put: Set) -> None:
    """Law 3: a request holds several records of a key; those that are refused go again, behind the others."""

    def add(self: Any, entry: Any) -> None:
        self.pending += 1
        self.pending_bytes += entry.size
        self._ready.append(entry)

    def accepted(self: Any, entries: Sequence[Any]) -> None:
        self.pending -= len(entries)
        self.pending_bytes -= sum(entry.size for entry in entries)

    put(KeyLimiter, "add", add)
    put(KeyLimiter, "accepted", accepted)


def goes_on_after_errors(put: Set) -> None:
    """Law 4: an error that nobody expected is logged, and the next batch is asked for: kclpy's own behaviour."""
    put(processor, "_exit", lambda: None)


def appends_again(put: Set) -> None:
    """Law 5: the lake takes what it has already."""

    def append(self: ChangeLog, *arguments: Any) -> Any:
        self._known = _Nothing()  # type: ignore[assignment]
        return whole(self, *arguments)

    whole = ChangeLog._append_new
    put(ChangeLog, "_append_new", append)


class _Nothing:
    """Knows no position."""

    def find(self, *_: Any) -> frozenset[str]:
        return frozenset()

    def record(self, *_: Any) -> None:
        """Forgets."""


def takes_what_is_older(put: Set) -> None:
    """Law 5: the last change that comes wins, not the one with the highest position."""

    def last(held: RowState | None, change: Change, floor: str = NO_POSITION) -> RowState | None:
        fresh = merge(None, change)
        if held is None or fresh is None or change.op is not Op.UPDATE:
            return fresh
        return structs.replace(fresh, values={**held.values, **fresh.values})

    put(write_buffer, "merge", last)


BUGS: Mapping[str, Callable[[Set], None]] = {
    "acknowledges-early": acknowledges_early,
    "checkpoints-early": checkpoints_early,
    "swaps-a-key": sends_a_key_twice_at_once,
    "goes-on-after-errors": goes_on_after_errors,
    "appends-again": appends_again,
    "takes-what-is-older": takes_what_is_older,
}
"""By name."""
