"""What a replay was asked for: from the flags to its journal, and from a journal to the changes that are wanted."""

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


def wanted(since: str | None, until: str | None, tables: Sequence[str] | None, where: str | None) -> Selection:
    """The changes that the flags name. Raises UsageError."""
    if since is None:
        raise UsageError("from where?", "--from 10m, --from 2026-11-23T10:00:00Z, or --resume FOLDER")
    end = None if until is None else parse_point(until, future=True)
    return selection(parse_point(since), end, tables, where=where)


def begun(
    consumer: str,
    settings: Settings,
    chosen: Selection,
    begin: StartPosition,
    tables: Sequence[str] | None,
    where: str | None,
) -> Journal:
    """The journal of a replay that has not read anything; `tables` and `where` as they were typed."""
    end = None if chosen.until is None else str(chosen.until)
    whole = chosen.whole and begin == EARLIEST
    return Journal(consumer, settings.stream, str(chosen.since), end, list(tables or ()), where, begin, whole)


def selected(journal: Journal) -> Selection:
    """The changes that a replay is about."""
    point = Point() if journal.since == "earliest" else parse_point(journal.since)
    end = None if journal.until is None else parse_point(journal.until, future=True)
    return selection(point, end, journal.tables, where=journal.where)


def end_of(chosen: Selection) -> datetime | None:
    """The time up to which changes are wanted; None: up to the present, or to a place whose time is not known."""
    return chosen.until.moment if chosen.until is not None and chosen.until.by_time else None


def resumed(folder: Path, consumer: str, others: Sequence[object]) -> Journal:
    """The journal of a replay that was cut off; `others` are all other flags. Raises UsageError."""
    if any(others):
        raise UsageError("--resume goes on as it was begun: no other choice has a place there", "leave them out")
    journal = read_journal(folder)
    if journal.consumer != consumer:
        raise UsageError(f"{folder} is a replay of {journal.consumer}", "name that one")
    if journal.complete:
        raise UsageError(f"the replay in {folder} is done", "begin another one")
    return journal


def fresh_folder(settings: Settings, consumer: str, named: Path | None = None) -> Path:
    """A folder for what a replay that begins now makes, nobody else's. Raises UsageError when the named one is used."""
    if named is not None:
        if (named / consumer).exists() or (named / JOURNAL_FILE).exists():
            raise UsageError(f"{named} holds a replay already", "name another folder with --into, or use --resume")
        return named
    plain = f"{consumer}-{datetime.now(UTC):%Y%m%dT%H%M%S}"
    for number in count(1):  # two may begin in one second
        path = settings.folder / "replays" / (plain if number == 1 else f"{plain}-{number}")
        with suppress(FileExistsError):
            path.mkdir(parents=True)
            return path
    raise AssertionError
