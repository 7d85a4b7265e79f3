"""Fills a new satellite: its consumer reads the stream from now on while a backfill publishes the existing rows.

Together they miss nothing: the backfill reads every row committed before its first watermark, and later changes reach
the stream after the time at which the consumer starts to read.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager

from cdcctl import output
from cdcctl.verify.run import open_fence
from cdckit.errors import CdcError
from cdckit.runtime.settings import Settings
from producer.postgres.connection import Source
from producer.postgres.credentials import SourceDsn
from producer.snapshot.backfill import BackfillRequest, backfill, select_tables
from producer.snapshot.progress import SnapshotProgress, progress_reporter

_CATCH_UP_TIMEOUT = 6 * 3600.0


@contextmanager
def bootstrap_in_background(settings: Settings, names: Sequence[str], rate: float | None) -> Iterator[None]:
    """Run the backfill in a thread while the block runs. An error is reported and does not stop the consumers."""
    ended = threading.Event()
    thread = threading.Thread(target=_run, args=(settings, names, rate, ended.is_set), name="bootstrap")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _run(settings: Settings, names: Sequence[str], rate: float | None, stopping: Callable[[], bool]) -> None:
    try:
        _bootstrap(settings, names, rate, stopping)
    except CdcError as error:
        output.print_error(error)
        output.note("the bootstrap failed; the consumer continues. To resume, start it again with --bootstrap")
    except KeyboardInterrupt:  # the wait for the fence was stopped
        output.note(_PAUSED)


def _bootstrap(settings: Settings, names: Sequence[str], rate: float | None, stopping: Callable[[], bool]) -> None:
    tables = select_tables(settings, [])
    output.note(f"bootstrap: publishing the rows of {len(tables)} {'table' if len(tables) == 1 else 'tables'}")
    with progress_reporter("bootstrap") as tell:
        figures, done = backfill(settings, BackfillRequest(tables, rate=rate), stopping, tell)
    if not done:
        output.note(_PAUSED)
        return
    output.note(f"bootstrap: all rows are on the stream; waiting until {' and '.join(names)} has applied them")
    with closing(Source(SourceDsn(settings)())) as source:
        for name in names:
            fence = open_fence(source, settings, name, _CATCH_UP_TIMEOUT, stopping).wait()
            output.note(_caught_up(name, figures, str(fence)))


def _caught_up(name: str, figures: SnapshotProgress, fence: str) -> str:
    return (
        f"[green]{output.escape(name)} has caught up[/]: it holds {figures.rows:,} rows of {figures.tables} tables and "
        f"every change committed before {fence}; check it with [bold]cdcctl verify {output.escape(name)}[/]"
    )


_PAUSED = "the bootstrap is paused; start the consumer again with --bootstrap to resume"
