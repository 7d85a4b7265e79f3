"""Stores a shard's records as lines of JSON in files of about 64 MiB, in the order of their sequence numbers.

Memory holds only the names and sizes of the files. A position is a file and an offset; a binary search over the bytes
of one file finds a record by its sequence number. Written records survive a kill of the process.
"""

from __future__ import annotations

import bisect
import os
from dataclasses import dataclass, field
from pathlib import Path

from cdcctl.sandbox.kinesis.sequence import WIDTH

SEGMENT_BYTES = 64 * 1024 * 1024
_HEAD = len(b'{"SequenceNumber":"')
_SUFFIX = ".jsonl"
_STEP = 4096


@dataclass(frozen=True, slots=True, order=True)
class LogPosition:
    """A position between two records: the first sequence number of the segment, and the offset in its file."""

    segment: str
    offset: int


START = LogPosition("", 0)


@dataclass(slots=True)
class Segment:
    """One file; `size` is the size of its complete lines."""

    first: str
    size: int = 0


@dataclass(slots=True)
class Log:
    """All segments of one shard, oldest first; new records are appended to the last one."""

    folder: Path
    segment_bytes: int = SEGMENT_BYTES
    segments: list[Segment] = field(default_factory=list)
    last: str = ""
    """The highest sequence number in the log since it was opened; empty if there is none."""

    @classmethod
    def open(cls, folder: Path, segment_bytes: int = SEGMENT_BYTES) -> Log:
        """Open the existing files. Truncates the incomplete line of an interrupted put, which was never answered."""
        folder.mkdir(parents=True, exist_ok=True)
        log = cls(folder, segment_bytes)
        log.segments = [Segment(path.stem, path.stat().st_size) for path in sorted(folder.glob(f"*{_SUFFIX}"))]
        while log.segments and not log._recover(log.segments[-1]):
            log._path(log.segments.pop()).unlink()
        return log

    def append(self, lines: list[bytes], first: str, last: str) -> None:
        """Append lines, each one record that ends with a newline. After an OSError nothing is appended."""
        if not self.segments or self.segments[-1].size >= self.segment_bytes:
            self.segments.append(Segment(first))
        segment = self.segments[-1]
        data = b"".join(lines)
        with self._path(segment).open("ab", buffering=0) as file:
            try:
                _write_all(file.fileno(), data)
            except OSError:
                os.ftruncate(file.fileno(), segment.size)
                raise
        segment.size += len(data)
        self.last = last

    def end(self) -> LogPosition:
        """The position after the newest record."""
        return LogPosition(self.segments[-1].first, self.segments[-1].size) if self.segments else START

    def find(self, number: str) -> LogPosition:
        """The position of the first record whose sequence number is not below `number`; the end if there is none."""
        index = bisect.bisect_right([segment.first for segment in self.segments], number) - 1
        if index < 0:
            return START
        segment = self.segments[index]
        with self._path(segment).open("rb") as file:
            offset = _search(file.fileno(), segment.size, number)
        return self._normalize(LogPosition(segment.first, offset))

    def read(self, position: LogPosition, limit: int, max_bytes: int) -> tuple[list[bytes], LogPosition]:
        """Read at most `limit` records and `max_bytes` bytes, but at least one record; returns the place after them."""
        position = self._normalize(position)
        segment = self._segment(position)
        if segment is None or position.offset >= segment.size:
            return [], position
        with self._path(segment).open("rb") as file:
            data = _lines(file.fileno(), position.offset, segment.size, max_bytes)
        lines = data.split(b"\n", limit)
        rest = lines.pop()
        return lines, self._normalize(LogPosition(segment.first, position.offset + len(data) - len(rest)))

    def number_at(self, position: LogPosition) -> str | None:
        """The sequence number of the record at a position; None at the end."""
        position = self._normalize(position)
        segment = self._segment(position)
        if segment is None or position.offset >= segment.size:
            return None
        with self._path(segment).open("rb") as file:
            return _number(file.fileno(), position.offset)

    def total_bytes(self) -> int:
        """The size of all records."""
        return sum(segment.size for segment in self.segments)

    def drop_before(self, number: str) -> int:
        """Delete the files that contain only records below `number`; returns the number of freed bytes."""
        freed = 0
        while len(self.segments) > 1 and self.segments[1].first <= number:
            freed += self.drop_oldest()
        return freed

    def drop_oldest(self) -> int:
        """Delete the oldest file; returns the number of freed bytes."""
        segment = self.segments.pop(0)
        self._path(segment).unlink(missing_ok=True)
        return segment.size

    def _path(self, segment: Segment) -> Path:
        return self.folder / f"{segment.first}{_SUFFIX}"

    def _normalize(self, position: LogPosition) -> LogPosition:
        """The same position in a file that exists: an end of a file becomes the start of the next one.

        A position in a deleted file becomes the start of the oldest file after it.
        """
        index = bisect.bisect_left([segment.first for segment in self.segments], position.segment)
        if index == len(self.segments):
            return position
        segment = self.segments[index]
        if segment.first != position.segment:
            return LogPosition(segment.first, 0)
        if position.offset >= segment.size and index + 1 < len(self.segments):
            return LogPosition(self.segments[index + 1].first, 0)
        return position

    def _segment(self, position: LogPosition) -> Segment | None:
        return next((segment for segment in self.segments if segment.first == position.segment), None)

    def _recover(self, segment: Segment) -> bool:
        """Truncate an incomplete last line and read the last number; False if no record is left."""
        with self._path(segment).open("r+b") as file:
            end = _line_start(file.fileno(), segment.size)
            os.ftruncate(file.fileno(), end)
            segment.size = end
            if end:
                self.last = _number(file.fileno(), _line_start(file.fileno(), end - 1))
        return end > 0


def number_of(line: bytes) -> str:
    """The sequence number of a record's line."""
    return line[_HEAD : _HEAD + WIDTH].decode("ascii")


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _number(descriptor: int, offset: int) -> str:
    return os.pread(descriptor, WIDTH, offset + _HEAD).decode("ascii")


def _line_start(descriptor: int, offset: int) -> int:
    """The start of the line that contains the byte at `offset`."""
    while offset > 0:
        begin = max(0, offset - _STEP)
        found = os.pread(descriptor, offset - begin, begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        offset = begin
    return 0


def _search(descriptor: int, size: int, number: str) -> int:
    """The offset of the first line whose number is not below `number`; `size` if there is none."""
    low, high = 0, size  # starts of lines: all lines before `low` are below `number`, the line at `high` is not
    while low < high:
        middle = _line_start(descriptor, (low + high + 1) // 2)
        middle = max(low, middle)
        if _number(descriptor, middle) < number:
            low = _next_line(descriptor, middle, size)
        else:
            high = middle
    return low


def _next_line(descriptor: int, offset: int, size: int) -> int:
    while offset < size:
        found = os.pread(descriptor, _STEP, offset).find(b"\n")
        if found >= 0:
            return offset + found + 1
        offset += _STEP
    return size


def _lines(descriptor: int, offset: int, size: int, max_bytes: int) -> bytes:
    """The complete lines from `offset` on: at most `max_bytes` bytes, but at least one line."""
    data = os.pread(descriptor, min(max_bytes, size - offset), offset)
    end = data.rfind(b"\n") + 1
    return data[:end] if end else os.pread(descriptor, _next_line(descriptor, offset, size) - offset, offset)
