"""A shard's records: lines of JSON in files of at most 64 MiB, in the order of their sequence numbers.

Nothing is kept in memory but the names and sizes of the files. A place is a file and an offset; a record is found by
its sequence number with a binary search over the bytes of one file. What was written survives a kill of the process.
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
class Place:
    """Where the next record begins: the segment's first sequence number, and the offset in its file."""

    segment: str
    offset: int


START = Place("", 0)


@dataclass(slots=True)
class Segment:
    """One file; `size` counts complete lines only."""

    first: str
    size: int = 0


@dataclass(slots=True)
class Log:
    """All segments of one shard, the oldest first; the last one is appended to."""

    folder: Path
    segment_bytes: int = SEGMENT_BYTES
    segments: list[Segment] = field(default_factory=list)
    last: str = ""
    """The highest sequence number that was ever appended; empty when there is none."""

    @classmethod
    def open(cls, folder: Path, segment_bytes: int = SEGMENT_BYTES) -> Log:
        """Find what is there. The incomplete line of a put that was interrupted was not answered: it is cut off."""
        folder.mkdir(parents=True, exist_ok=True)
        log = cls(folder, segment_bytes)
        log.segments = [Segment(path.stem, path.stat().st_size) for path in sorted(folder.glob(f"*{_SUFFIX}"))]
        while log.segments and not log._recover(log.segments[-1]):
            log._path(log.segments.pop()).unlink()
        return log

    def append(self, lines: list[bytes], first: str, last: str) -> None:
        """Add lines, each one record that ends with a newline. Raises OSError, and then nothing was added."""
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

    def end(self) -> Place:
        """Behind the newest record."""
        return Place(self.segments[-1].first, self.segments[-1].size) if self.segments else START

    def find(self, number: str) -> Place:
        """The first record whose sequence number is not below `number`; the end when there is none."""
        index = bisect.bisect_right([segment.first for segment in self.segments], number) - 1
        if index < 0:
            return START
        segment = self.segments[index]
        with self._path(segment).open("rb") as file:
            offset = _search(file.fileno(), segment.size, number)
        return self._normal(Place(segment.first, offset))

    def read(self, place: Place, limit: int, most_bytes: int) -> tuple[list[bytes], Place]:
        """At most so many records and bytes (but always one, when there is one), and the place behind them."""
        place = self._normal(place)
        segment = self._segment(place)
        if segment is None or place.offset >= segment.size:
            return [], place
        with self._path(segment).open("rb") as file:
            data = _lines(file.fileno(), place.offset, segment.size, most_bytes)
        lines = data.split(b"\n", limit)
        rest = lines.pop()
        return lines, self._normal(Place(segment.first, place.offset + len(data) - len(rest)))

    def number_at(self, place: Place) -> str | None:
        """The sequence number of the record at a place; None at the end."""
        place = self._normal(place)
        segment = self._segment(place)
        if segment is None or place.offset >= segment.size:
            return None
        with self._path(segment).open("rb") as file:
            return _number(file.fileno(), place.offset)

    def bytes(self) -> int:
        """What the files hold."""
        return sum(segment.size for segment in self.segments)

    def drop_before(self, number: str) -> int:
        """Remove the files all of whose records are below `number`; how many bytes that freed."""
        freed = 0
        while len(self.segments) > 1 and self.segments[1].first <= number:
            freed += self.drop_oldest()
        return freed

    def drop_oldest(self) -> int:
        """Remove the oldest file; how many bytes that freed."""
        segment = self.segments.pop(0)
        self._path(segment).unlink(missing_ok=True)
        return segment.size

    def _path(self, segment: Segment) -> Path:
        return self.folder / f"{segment.first}{_SUFFIX}"

    def _normal(self, place: Place) -> Place:
        """The same place, at the beginning of the next segment when it is at an end; the oldest one when it is gone."""
        index = bisect.bisect_left([segment.first for segment in self.segments], place.segment)
        if index == len(self.segments):
            return place
        segment = self.segments[index]
        if segment.first != place.segment:
            return Place(segment.first, 0)
        if place.offset >= segment.size and index + 1 < len(self.segments):
            return Place(self.segments[index + 1].first, 0)
        return place

    def _segment(self, place: Place) -> Segment | None:
        return next((segment for segment in self.segments if segment.first == place.segment), None)

    def _recover(self, segment: Segment) -> bool:
        """Cut an incomplete last line, and learn the last number; False when nothing is left."""
        with self._path(segment).open("r+b") as file:
            end = _line_start(file.fileno(), segment.size)
            os.ftruncate(file.fileno(), end)
            segment.size = end
            if end:
                self.last = _number(file.fileno(), _line_start(file.fileno(), end - 1))
        return end > 0


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _number(descriptor: int, offset: int) -> str:
    return os.pread(descriptor, WIDTH, offset + _HEAD).decode("ascii")


def _line_start(descriptor: int, offset: int) -> int:
    """Where the line begins that contains the byte before `offset`, or ends there."""
    while offset > 0:
        begin = max(0, offset - _STEP)
        found = os.pread(descriptor, offset - begin, begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        offset = begin
    return 0


def _search(descriptor: int, size: int, number: str) -> int:
    """The offset of the first line whose number is not below `number`; `size` when there is none."""
    low, high = 0, size  # line starts: all lines before `low` are below, the line at `high` is not
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


def _lines(descriptor: int, offset: int, size: int, most: int) -> bytes:
    """Whole lines from `offset` on: at most so many bytes, but always one line."""
    data = os.pread(descriptor, min(most, size - offset), offset)
    end = data.rfind(b"\n") + 1
    return data[:end] if end else os.pread(descriptor, _next_line(descriptor, offset, size) - offset, offset)
