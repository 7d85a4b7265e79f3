"""Reindex: builds the next index beside the one in use and switches to it, while consumers write and users search.

1. Create a generation with the new mapping, and fill it: from the rows of the generation in use (this needs no stream,
   and keeps rows older than the stream's retention), or by replaying the stream from a time.
2. Switch the writers to it. From now on nothing is written to the old generation.
3. Add what was written to the old generation meanwhile. Positions make the result independent of the order.
4. Switch the readers to it, and remove the old generation. Between 2 and 4 readers see the old one unchanged.

If a reindex is interrupted before 2, the new generation is never used; between 2 and 4, the next call continues at 3.
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
    """The result of a reindex. `missing` rows are in the old index but not in the replay; then nothing is switched."""

    generation: str
    previous: str
    rows: int = 0
    missing: int = 0
    dead_lettered: int = 0
    swapped: bool = False


class StreamReplay(Protocol):
    """Applies the stream to a sink, from a time on. `consumers.replay.catchup.Catchup` is an implementation."""

    @property
    def moment(self) -> datetime:
        """The commit time at which it starts."""

    @property
    def applied(self) -> int:
        """The number of changes that had an effect so far."""

    @property
    def dead_lettered(self) -> int:
        """The number of records that cannot be applied."""

    def follow(self, open_sink: Callable[[], Sink]) -> None:
        """Apply the stream up to now. Raises StreamError, and SatelliteError when a stop was requested."""


def reindex(
    generations: Generations,
    mapping: IndexMapping,
    folder: Path,
    stream: StreamReplay | None = None,
    *,
    force: bool = False,
) -> ReindexResult:
    """Build the next generation and switch to it. Without `stream`, its rows come from the generation in use.

    With `force` it switches although rows are missing or dead-lettered. Raises UsageError when the stored rows lack
    what the new mapping needs, SatelliteError when there is no index or another reindex is running.
    """
    with _locked(folder):
        previous = generations.current()
        if unfinished := generations.unfinished():
            return _finish(generations, ReindexResult(unfinished, previous), stream)
        if stream is None:
            _check_stored_columns(generations, previous, mapping)
            generation = generations.create(mapping, time.time(), COPY)
            rows = generations.load(generation, generations.watermarks(previous), generations.rows(previous))
            return _finish(generations, ReindexResult(generation, previous, rows), None)
        generation = generations.create(mapping, time.time(), stream.moment.isoformat())
        stream.follow(lambda: SearchSink(generations.writer(generation)))
        missing = _missing(generations, previous, generation, mapping)
        result = ReindexResult(generation, previous, stream.applied, missing, stream.dead_lettered)
        return result if (missing or result.dead_lettered) and not force else _finish(generations, result, stream)


def _finish(generations: Generations, result: ReindexResult, stream: StreamReplay | None) -> ReindexResult:
    """Switch the writers, add what was written to the old generation meanwhile, switch the readers."""
    generation = result.generation
    origin, since = generations.metadata(generation, "origin"), float(generations.metadata(generation, "started"))
    if origin != COPY and stream is None:
        raise UsageError(
            f"an earlier reindex from {origin} was interrupted", f"finish it: cdcctl search reindex --from {origin}"
        )
    generations.switch_writers(generation)
    if origin == COPY:
        generations.load(generation, generations.watermarks(result.previous), generations.rows(result.previous, since))
    elif stream is not None:
        stream.follow(lambda: SearchSink(generations.writer(generation)))
        result = replace(result, dead_lettered=stream.dead_lettered)
    generations.switch_readers(generation)
    return replace(result, swapped=True)


def _check_stored_columns(generations: Generations, previous: str, mapping: IndexMapping) -> None:
    """Check that the stored rows have all that the new mapping may need."""
    old = generations.mapping(previous)
    narrower = (not old.table or set(mapping.table) <= set(old.table) != set()) and (
        set(old.exclude_table) <= set(mapping.exclude_table)
    )
    wanted = [] if narrower and (mapping.table or not old.table) else ["tables that it left out"]
    for watermark in generations.watermarks(previous):
        before, after = old.rule(watermark.table), mapping.rule(watermark.table)
        if before and after and (columns := sorted(set(before.exclude) - set(after.exclude))):
            wanted.append(f"{watermark.table}'s column {columns[0]}")
    if wanted:
        raise UsageError(
            f"the index in use does not store {wanted[0]}, which the new mapping may need",
            "replay the stream instead: cdcctl search reindex --from earliest",
        )


def _missing(generations: Generations, previous: str, generation: str, mapping: IndexMapping) -> int:
    """Count rows that the new index should have but has not: the stream's records do not go back to them."""
    watermarks = {(item.source, item.table): item.position for item in generations.watermarks(generation)}
    wanted = (
        row for row in generations.rows(previous)
        if not row.state.deleted and mapping.rule(row.table) is not None
        and row.state.position > watermarks.get((row.source, row.table), "")
    )  # fmt: skip
    return sum(not there for there in generations.contains(generation, wanted))


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with closing((folder / "reindex.lock").open("w")) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SatelliteError("another reindex of this index is running", "wait until it ends") from None
        yield
