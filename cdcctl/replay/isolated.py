"""Runs a replay into a shadow, and says what came of it."""

from __future__ import annotations

from pathlib import Path

import typer
from msgspec.structs import asdict

from cdcctl import output
from cdcctl.options import Format
from cdcctl.replay.progress import Progress
from cdcctl.replay.request import end_of, selected
from cdckit.errors import CdcError
from cdckit.runtime.signals import stop_on_signals
from consumers.replay.shadow import Journal, ShadowReplay, write_journal
from consumers.stream.rate_limit import ReadRateLimiter


def fill(shadow: ShadowReplay, reads: float, output_format: Format) -> None:
    """Replay into the shadow and report. Raises what `ShadowReplay.replay` raises, typer.Exit when interrupted."""
    chosen = selected(shadow.journal)
    progress = Progress(end_of(chosen))
    write_journal(shadow.folder, shadow.journal)
    with stop_on_signals() as stopping:
        try:
            done = shadow.replay(chosen, stopping.is_set, progress.took, ReadRateLimiter(reads))
        except CdcError:
            progress.close()
            _say_how_to_go_on(shadow.journal, shadow.folder)
            raise
        finally:
            progress.close()
    _report(shadow.folder, done, output_format)
    if not done.complete:
        raise typer.Exit(130)


def _report(folder: Path, done: Journal, output_format: Format) -> None:
    if output_format is Format.JSON:
        output.print_json({"folder": str(folder), **asdict(done)})
    else:
        output.print_text(
            f"{done.read:,} changes read, {done.applied:,} applied, {done.superseded:,} superseded, "
            f"{done.dead_lettered:,} dead-lettered; newest commit {done.newest or '-'}"
        )
    name, where = done.consumer, output.escape(str(folder))
    if not done.complete:
        _say_how_to_go_on(done, folder)
        return
    output.note(f"look at it: add [bold]--data {where}[/] to any {name} command")
    if done.whole:
        output.note(f"make it the live one, once the consumer is stopped: [bold]cdcctl replay swap {name} {where}[/]")
    if name == "search":
        output.note("an index made anew while it is in use: [bold]cdcctl search reindex[/]")


def _say_how_to_go_on(journal: Journal, folder: Path) -> None:
    where = output.escape(str(folder))
    output.note(f"cut off; go on: [bold]cdcctl replay {journal.consumer} --resume {where}[/]")
