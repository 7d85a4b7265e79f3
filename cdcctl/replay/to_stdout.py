"""Writes a range of changes as JSON lines. After an interruption it can continue without losing or repeating a line."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

import typer

from cdcctl import output
from cdcctl.replay.progress import ReplayProgress
from cdcctl.replay.request import end_time, new_folder, selection_of
from cdcctl.tail.printers import JsonLines, View
from cdckit.errors import StreamError
from cdckit.runtime.settings import Settings
from cdckit.runtime.signals import stop_on_signals
from consumers.filters.feed import Feed
from consumers.replay.shadow import JOURNAL_FILE, Journal, write_journal
from consumers.stream.reader import StreamReader

NAME = "stdout"


def write(journal: Journal, settings: Settings, saved: Path | None = None) -> None:
    """Print the rest of the range. An interruption saves the journal in a folder, which is removed on completion.

    `saved` is the folder of an earlier interruption. Raises StreamError, and typer.Exit after an interruption.
    """
    with stop_on_signals() as stopping:
        reader = StreamReader(
            journal.stream, journal.start, True, stopping.is_set, checkpoints=dict(journal.checkpoints)
        )
        try:
            _print_pages(Feed(reader, selection_of(journal)), journal)
        except StreamError:
            _save(journal, saved or new_folder(settings, NAME))
            raise
    if stopping.is_set():
        _save(journal, saved or new_folder(settings, NAME))
        raise typer.Exit(130)
    if saved is not None:
        (saved / JOURNAL_FILE).unlink()
        with suppress(OSError):  # the folder holds other files
            saved.rmdir()


def _print_pages(feed: Feed, journal: Journal) -> None:
    printer, progress = JsonLines(View()), ReplayProgress(end_time(feed.selection))
    try:
        for page, seen in feed.batches():
            printer.show(seen)
            journal.read += len(seen)
            if page.checkpoint is not None:
                journal.checkpoints[page.shard] = page.checkpoint
            if not sys.stdout.isatty():
                progress.update(page, len(seen))
    finally:
        progress.close()


def _save(journal: Journal, folder: Path) -> None:
    write_journal(folder, journal)
    path = output.escape(str(folder))
    output.note(
        f"interrupted after {journal.read:,} changes; continue with "
        f"[bold]cdcctl replay {NAME} --resume {path} >> FILE[/]"
    )
