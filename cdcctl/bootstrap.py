"""A satellite that starts late: it reads from now on, gets what is there by a backfill, and says when it is level.

What was committed before the backfill's first watermark is in the rows that it reads; what comes after is on the stream
after this moment, from which the consumer reads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager

from cdcctl import output
from cdcctl.verification.run import open_fence
from cdckit.errors import CdcError
from cdckit.settings import Settings
from producer.backfill import Asked, backfill, chosen
from producer.credentials import SourceDsn
from producer.fill import Figures
from producer.source import Source
from producer.telling import telling

_PATIENCE = 6 * 3600.0


@contextmanager
def bootstrapping(settings: Settings, names: Sequence[str], rate: float | None) -> Iterator[None]:
    """Meanwhile fill the satellites in a thread of its own. What goes wrong there is told, and the consumers run on."""
    ended = threading.Event()
    thread = threading.Thread(target=_told, args=(settings, names, rate, ended.is_set), name="bootstrap")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _told(settings: Settings, names: Sequence[str], rate: float | None, stopping: Callable[[], bool]) -> None:
    try:
        _bootstrap(settings, names, rate, stopping)
    except CdcError as error:
        output.failure(error)
        output.note("the bootstrap stopped, the consumer runs on; start it again with --bootstrap to go on")
    except KeyboardInterrupt:  # the fence was told to stop
        output.note("the bootstrap is paused: --bootstrap goes on with it")


def _bootstrap(settings: Settings, names: Sequence[str], rate: float | None, stopping: Callable[[], bool]) -> None:
    tables = chosen(settings, [])
    output.note(f"bootstrap: publishing the rows of {len(tables)} {'table' if len(tables) == 1 else 'tables'}")
    with telling("bootstrap") as tell:
        figures, done = backfill(settings, Asked(tables, rate=rate), stopping, tell)
    if not done:
        output.note("the bootstrap is paused: --bootstrap goes on with it")
        return
    output.note(f"bootstrap: all rows are on the stream; waiting for {' and '.join(names)} to hold them")
    with closing(Source(SourceDsn(settings)())) as source:
        for name in names:
            fence = open_fence(source, settings, name, _PATIENCE, stopping).pass_()
            output.note(_level(name, figures, str(fence)))


def _level(name: str, figures: Figures, fence: str) -> str:
    return (
        f"[green]{output.escape(name)} has caught up[/]: it holds {figures.rows:,} rows of {figures.tables} tables and "
        f"all that was committed up to {fence}; [bold]cdcctl verify {output.escape(name)}[/] proves it"
    )
