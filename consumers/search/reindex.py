"""Makes the next index beside the one in use and swaps it in, while consumers write and applications search.

1. A new generation is made with the new mapping and filled: with the rows of the one in use (no stream is needed, and
   rows older than the stream's retention stay), or by replaying the stream from a time.
2. The writers are turned to it. Nothing is written to the old one any more.
3. What was written to the old one meanwhile is added: positions make it the same in any order.
4. The readers are turned to it; the old one is removed. Between 2 and 4 readers see the old one standing still.

Cut off before 2 it leaves nothing in use; cut off between 2 and 4 the next call goes on at 3.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Protocol

from cdckit.errors import SatelliteError, UsageError
from cdckit.sink import Sink
from consumers.search.engine import Generations
from consumers.search.mapping import IndexMapping
from consumers.search.sink import SearchSink

COPY = "copy"


@dataclass(frozen=True, slots=True)
class ReindexResult:
    """What was done. `missing` rows are in the old index but not in what was replayed; then nothing is swapped."""

    generation: str
    previous: str
    rows: int = 0
    missing: int = 0
    dead_lettered: int = 0
    swapped: bool = False


class StreamReplay(Protocol):
    """The stream from a time on, applied to a sink; `consumers.replay.catchup.Catchup` is one."""

    @property
    def moment(self) -> datetime:
        """The commit time from which on it is read."""

    @property
    def applied(self) -> int:
        """Changes that had an effect so far."""

    @property
    def dead_lettered(self) -> int:
        """Records that could never be applied."""

    def follow(self, open_sink: Callable[[], Sink]) -> None:
        """Read up to the present. Raises StreamError, and SatelliteError when it was told to stop."""


def reindex(
    generations: Generations,
    mapping: IndexMapping,
    folder: Path,
    stream: StreamReplay | None = None,
    *,
    force: bool = False,
) -> ReindexResult:
    """Make the next generation and swap it in; `stream` None: from the rows of the one in use.

    `force` swaps although rows are missing or dead-lettered. Raises UsageError when the rows held cannot give what the
    new mapping asks for, SatelliteError when there is no index or another reindex is running.
    """
    with _locked(folder):
        previous = generations.current()
        if unfinished := generations.unfinished():
            return _finish(generations, ReindexResult(unfinished, previous), stream)
        if stream is None:
            _check_kept(generations, previous, mapping)
            fresh = generations.create(mapping, time.time(), COPY)
            rows = generations.load(fresh, generations.floors(previous), generations.rows(previous))
            return _finish(generations, ReindexResult(fresh, previous, rows), None)
        fresh = generations.create(mapping, time.time(), stream.moment.isoformat())
        stream.follow(lambda: SearchSink(generations.writer(fresh)))
        missing = _missing(generations, previous, fresh, mapping)
        done = ReindexResult(fresh, previous, stream.applied, missing, stream.dead_lettered)
        return done if (missing or done.dead_lettered) and not force else _finish(generations, done, stream)


def _finish(generations: Generations, made: ReindexResult, stream: StreamReplay | None) -> ReindexResult:
    """Turn the writers, add what was written to the old generation meanwhile, turn the readers."""
    fresh = made.generation
    origin, since = generations.note(fresh, "origin"), float(generations.note(fresh, "started"))
    if origin != COPY and stream is None:
        raise UsageError(f"an earlier reindex from {origin} was cut off before its end", f"finish it: --from {origin}")
    generations.turn_writers(fresh)
    if origin == COPY:
        generations.load(fresh, generations.floors(made.previous), generations.rows(made.previous, since))
    elif stream is not None:
        stream.follow(lambda: SearchSink(generations.writer(fresh)))
        made = replace(made, dead_lettered=stream.dead_lettered)
    generations.turn_readers(fresh)
    return replace(made, swapped=True)


def _check_kept(generations: Generations, previous: str, mapping: IndexMapping) -> None:
    """Whether the rows held have all that the new mapping may ask for."""
    old = generations.mapping(previous)
    narrower = (not old.table or set(mapping.table) <= set(old.table) != set()) and (
        set(old.exclude_table) <= set(mapping.exclude_table)
    )
    wanted = [] if narrower and (mapping.table or not old.table) else ["tables that it left out"]
    for floor in generations.floors(previous):
        before, after = old.rule(floor.table), mapping.rule(floor.table)
        if before and after and (columns := sorted(set(before.exclude) - set(after.exclude))):
            wanted.append(f"{floor.table}'s column {columns[0]}")
    if wanted:
        raise UsageError(
            f"the index in use never stored {wanted[0]}, which the new mapping may ask for",
            "replay the stream instead: cdcctl search reindex --from earliest",
        )


def _missing(generations: Generations, previous: str, fresh: str, mapping: IndexMapping) -> int:
    """Rows that the old index holds and the new one should but does not: older than what the stream still holds."""
    floors = {(floor.source, floor.table): floor.position for floor in generations.floors(fresh)}
    wanted = (
        row for row in generations.rows(previous)
        if not row.document.deleted and mapping.rule(row.table) is not None
        and row.document.position > floors.get((row.source, row.table), "")
    )  # fmt: skip
    return sum(not there for there in generations.holds(fresh, wanted))


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with closing((folder / "reindex.lock").open("w")) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SatelliteError("another reindex of this index is running", "wait for its end") from None
        yield
