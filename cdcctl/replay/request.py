"""Converts between a replay's flags, its journal, and the selection of changes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from cdcctl.change_options import selection
from cdcctl.timespec import parse_point
from cdckit.errors import UsageError
from cdckit.runtime.settings import Settings
from consumers.filters.selection import Selection
from consumers.replay.shadow import JOURNAL_FILE, Journal, read_journal
from consumers.stream.points import Point
from consumers.stream.start import EARLIEST, StartPosition


def parse_selection(since: str | None, until: str | None, tables: Sequence[str] | None, where: str | None) -> Selection:
    """The selection of changes that the flags describe. Raises UsageError."""
    if since is None:
        raise UsageError("--from is missing", "--from 10m, --from 2026-11-23T10:00:00Z, or --resume FOLDER")
    end = None if until is None else parse_point(until, future=True)
    return selection(parse_point(since), end, tables, where=where)


def new_journal(
    consumer: str,
    settings: Settings,
    selected: Selection,
    begin: StartPosition,
    tables: Sequence[str] | None,
    where: str | None,
) -> Journal:
    """The journal of a replay that has read nothing yet; `tables` and `where` as the user typed them."""
    end = None if selected.until is None else str(selected.until)
    whole = selected.whole and begin == EARLIEST
    return Journal(consumer, settings.stream, str(selected.since), end, list(tables or ()), where, begin, whole)


def selection_of(journal: Journal) -> Selection:
    """The selection of changes that a journal describes."""
    point = Point() if journal.since == "earliest" else parse_point(journal.since)
    end = None if journal.until is None else parse_point(journal.until, future=True)
    return selection(point, end, journal.tables, where=journal.where)


def end_time(selected: Selection) -> datetime | None:
    """The time at which a selection ends; None for now, and for a position whose time is unknown."""
    return selected.until.moment if selected.until is not None and selected.until.by_time else None


def resume_journal(folder: Path, consumer: str, others: Sequence[object]) -> Journal:
    """Read the journal of an interrupted replay; `others` are all other flags. Raises UsageError."""
    if any(others):
        raise UsageError(
            "--resume cannot be combined with other flags", "remove them: the journal holds the original ones"
        )
    journal = read_journal(folder)
    if journal.consumer != consumer:
        raise UsageError(
            f"{folder} is a replay of {journal.consumer}", f"cdcctl replay {journal.consumer} --resume {folder}"
        )
    if journal.complete:
        raise UsageError(f"the replay in {folder} is complete", "start another one with --from")
    return journal


def new_folder(settings: Settings, consumer: str, named: Path | None = None) -> Path:
    """Create a folder for a new replay, or check `named`. Raises UsageError when that already holds a replay."""
    if named is not None:
        if (named / consumer).exists() or (named / JOURNAL_FILE).exists():
            raise UsageError(f"{named} already holds a replay", "use another folder with --into, or --resume")
        return named
    plain = f"{consumer}-{datetime.now(UTC):%Y%m%dT%H%M%S}"
    for number in count(1):  # two replays may start in the same second
        path = settings.folder / "replays" / (plain if number == 1 else f"{plain}-{number}")
        with suppress(FileExistsError):
            path.mkdir(parents=True)
            return path
    raise AssertionError
