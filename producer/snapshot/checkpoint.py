"""A snapshot's checkpoint file: a line for the plan, then one for each range whose rows the stream has all accepted.

A line is durable before the next range counts as finished. A line that a crash cut off is ignored.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import msgspec

from cdckit.change import Table
from cdckit.errors import SourceError, UsageError
from producer.snapshot.chunks import KeyRange


class TablePlan(msgspec.Struct, frozen=True):
    """One table's ranges."""

    table: Table
    ranges: Sequence[KeyRange]


class Plan(msgspec.Struct, frozen=True):
    """What to read, and in which epoch: the finished ranges of another epoch are useless."""

    epoch: int
    parts: Sequence[TablePlan]


class _FinishedRange(msgspec.Struct, frozen=True, array_like=True):
    part: int
    number: int
    rows: int


class SnapshotCheckpoint:
    """The checkpoint file of one snapshot; one process at a time holds it."""

    def __init__(self, path: Path) -> None:
        """Lock the file. Raises UsageError when another process holds it, SourceError when it cannot be written."""
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: IO[bytes] = path.open("a+b")
        except OSError as error:
            raise SourceError(f"no checkpoint can be written to {path}: {error}", "fix --data (CDC_DATA)") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise UsageError(
                f"this snapshot or backfill is already running: {path} is in use",
                "wait for it, or stop it; others may run at the same time",
            ) from error
        self.plan, self._done = self._read()

    @property
    def done(self) -> Mapping[tuple[int, int], int]:
        """Rows by (part, range) of the finished ranges."""
        return self._done

    @property
    def rows(self) -> int:
        """Rows of all finished ranges."""
        return sum(self._done.values())

    def begin(self, plan: Plan) -> None:
        """Start from the beginning with this plan."""
        self._file.truncate(0)
        self.plan, self._done = plan, {}
        self._append(plan)

    def finished(self, part: int, number: int, rows: int) -> None:
        """Record that every row of this range is on the stream."""
        self._append(_FinishedRange(part, number, rows))
        self._done[part, number] = rows

    def close(self, *, forget: bool = False) -> None:
        """Release the file; with `forget` delete it, so that the next run starts from the beginning."""
        if forget:
            self._path.unlink(missing_ok=True)
        self._file.close()

    def _append(self, line: Plan | _FinishedRange) -> None:
        self._file.write(msgspec.json.encode(line) + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def _read(self) -> tuple[Plan | None, dict[tuple[int, int], int]]:
        self._file.seek(0)
        text = self._file.read()
        lines = text.split(b"\n")
        if lines[-1]:  # cut off by a crash: remove it, so that the next line starts on its own
            self._file.truncate(len(text) - len(lines[-1]))
        try:
            plan = msgspec.json.decode(lines[0], type=Plan) if len(lines) > 1 else None
            done = [msgspec.json.decode(line, type=_FinishedRange) for line in lines[1:-1]]
        except msgspec.DecodeError:
            return None, {}
        return plan, {(finished.part, finished.number): finished.rows for finished in done}
