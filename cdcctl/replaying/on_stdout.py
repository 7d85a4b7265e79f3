"""Writes a range of changes as JSON lines; cut off, it says how to go on without a line lost or written twice."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import typer

from cdcctl import output
from cdcctl.replaying.asked import end_of, selected
from cdcctl.replaying.progress import Progress
from cdcctl.signals import stop_on_signals
from cdcctl.tailing.printers import JsonLines, View
from cdckit.errors import StreamError
from consumers.feed import Feed
from consumers.reader import StreamReader
from consumers.replay import FILE, Journal, write_journal

NAME = "stdout"


def write(journal: Journal, folder: Path) -> None:
    """Print what is left of the range. Interrupted, `folder` keeps where it stopped; done, the folder is removed.

    Raises StreamError, typer.Exit when it was interrupted.
    """
    with stop_on_signals() as stopping:
        reader = StreamReader(
            journal.stream, journal.begin, True, stopping.is_set, marks=dict(journal.marks)
        )  # fmt: skip
        try:
            _print_pages(Feed(reader, selected(journal)), journal)
        except StreamError:
            _keep(journal, folder)
            raise
    if stopping.is_set():
        _keep(journal, folder)
        raise typer.Exit(130)
    if (folder / FILE).exists():
        shutil.rmtree(folder)


def _print_pages(feed: Feed, journal: Journal) -> None:
    printer, progress = JsonLines(View()), Progress(end_of(feed.selection))
    try:
        for page, seen in feed.batches():
            printer.show(seen)
            journal.read += len(seen)
            if page.mark is not None:
                journal.marks[page.shard] = page.mark
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
