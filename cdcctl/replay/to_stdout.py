"""Writes a range of changes as JSON lines; cut off, it says how to go on without a line lost or written twice."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

import typer

from cdcctl import output
from cdcctl.replay.progress import Progress
from cdcctl.replay.request import end_of, fresh_folder, selected
from cdcctl.tail.printers import JsonLines, View
from cdckit.errors import StreamError
from cdckit.runtime.settings import Settings
from cdckit.runtime.signals import stop_on_signals
from consumers.filters.feed import Feed
from consumers.replay.shadow import JOURNAL_FILE, Journal, write_journal
from consumers.stream.reader import StreamReader

NAME = "stdout"


def write(journal: Journal, settings: Settings, kept: Path | None = None) -> None:
    """Print what is left of the range. Interrupted, a folder keeps where it stopped; done, it is removed.

    `kept` is the folder of one that was interrupted before. Raises StreamError, typer.Exit when it was interrupted.
    """
    with stop_on_signals() as stopping:
        reader = StreamReader(
            journal.stream, journal.start, True, stopping.is_set, checkpoints=dict(journal.checkpoints)
        )
        try:
            _print_pages(Feed(reader, selected(journal)), journal)
        except StreamError:
            _keep(journal, kept or fresh_folder(settings, NAME))
            raise
    if stopping.is_set():
        _keep(journal, kept or fresh_folder(settings, NAME))
        raise typer.Exit(130)
    if kept is not None:
        (kept / JOURNAL_FILE).unlink()
        with suppress(OSError):  # something else lies there
            kept.rmdir()


def _print_pages(feed: Feed, journal: Journal) -> None:
    printer, progress = JsonLines(View()), Progress(end_of(feed.selection))
    try:
        for page, seen in feed.batches():
            printer.show(seen)
            journal.read += len(seen)
            if page.checkpoint is not None:
                journal.checkpoints[page.shard] = page.checkpoint
            if not sys.stdout.isatty():
                progress.took(page, len(seen))
    finally:
        progress.close()


def _keep(journal: Journal, folder: Path) -> None:
    write_journal(folder, journal)
    where = output.escape(str(folder))
    output.note(
        f"cut off after {journal.read:,} changes; go on: [bold]cdcctl replay {NAME} --resume {where} >> FILE[/]"
    )
