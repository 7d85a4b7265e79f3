"""What a fill has done, in a file: a line for the plan, then one for each range whose every row the stream has.

Appending a line is durable before the next range counts as done. A line that a crash cut off is no line.
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
from producer.snapshot.chunks import Range


class Part(msgspec.Struct, frozen=True):
    """One table's ranges."""

    table: Table
    ranges: Sequence[Range]


class Plan(msgspec.Struct, frozen=True):
    """What is to be read, and in which epoch: another epoch's ranges are of no use."""

    epoch: int
    parts: Sequence[Part]


class _Done(msgspec.Struct, frozen=True, array_like=True):
    part: int
    number: int
    rows: int


class Progress:
    """One fill's file, held by one process at a time."""

    def __init__(self, path: Path) -> None:
        """Take the file. Raises UsageError when another process has it, SourceError when it cannot be written."""
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: IO[bytes] = path.open("a+b")
        except OSError as error:
            raise SourceError(f"no progress can be kept in {path}: {error}", "mend --data (CDC_DATA)") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise UsageError(
                f"this very fill is running already: {path} is in use", "wait for it, or stop it; others may run beside"
            ) from error
        self.plan, self._done = self._read()

    @property
    def done(self) -> Mapping[tuple[int, int], int]:
        """Rows by (part, range) of what is finished."""
        return self._done

    @property
    def rows(self) -> int:
        """All rows of finished ranges."""
        return sum(self._done.values())

    def begin(self, plan: Plan) -> None:
        """Start anew with this plan."""
        self._file.truncate(0)
        self.plan, self._done = plan, {}
        self._append(plan)

    def finished(self, part: int, number: int, rows: int) -> None:
        """Every row of this range is on the stream."""
        self._append(_Done(part, number, rows))
        self._done[part, number] = rows

    def close(self, *, forget: bool = False) -> None:
        """Let the file go; `forget`: all is done, and the next fill begins anew."""
        if forget:
            self._path.unlink(missing_ok=True)
        self._file.close()

    def _append(self, line: Plan | _Done) -> None:
        self._file.write(msgspec.json.encode(line) + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def _read(self) -> tuple[Plan | None, dict[tuple[int, int], int]]:
        self._file.seek(0)
        text = self._file.read()
        lines = text.split(b"\n")
        if lines[-1]:  # cut off by a crash: what comes next must not be glued to it
            self._file.truncate(len(text) - len(lines[-1]))
        try:
            plan = msgspec.json.decode(lines[0], type=Plan) if len(lines) > 1 else None
            done = [msgspec.json.decode(line, type=_Done) for line in lines[1:-1]]
        except msgspec.DecodeError:
            return None, {}
        return plan, {(one.part, one.number): one.rows for one in done}
