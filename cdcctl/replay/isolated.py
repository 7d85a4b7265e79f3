"""Runs a replay into a new satellite and reports the result."""

from __future__ import annotations

from pathlib import Path

import typer
from msgspec.structs import asdict

from cdcctl import output
from cdcctl.options import Format
from cdcctl.replay.progress import ReplayProgress
from cdcctl.replay.request import end_time, selection_of
from cdckit.errors import CdcError
from cdckit.runtime.signals import stop_on_signals
from consumers.replay.shadow import Journal, ShadowReplay, write_journal
from consumers.stream.rate_limit import ReadRateLimiter


def run_replay(shadow: ShadowReplay, reads: float, output_format: Format) -> None:
    """Replay into `shadow` and report. Raises what `ShadowReplay.replay` raises, and typer.Exit when interrupted."""
    selected = selection_of(shadow.journal)
    progress = ReplayProgress(end_time(selected))
    write_journal(shadow.folder, shadow.journal)
    with stop_on_signals() as stopping:
        try:
            done = shadow.replay(selected, stopping.is_set, progress.update, ReadRateLimiter(reads))
        except CdcError:
            progress.close()
            _print_resume_hint(shadow.journal, shadow.folder)
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
    name, path = done.consumer, output.escape(str(folder))
    if not done.complete:
        _print_resume_hint(done, folder)
        return
    output.note(f"to query it, add [bold]--data {path}[/] to any {name} command")
    if done.whole:
        output.note(f"to make it the live one, stop the consumer and run [bold]cdcctl replay swap {name} {path}[/]")
    if name == "search":
        output.note("to rebuild the live index while it is in use: [bold]cdcctl search reindex[/]")


def _print_resume_hint(journal: Journal, folder: Path) -> None:
    path = output.escape(str(folder))
    output.note(f"interrupted; continue with [bold]cdcctl replay {journal.consumer} --resume {path}[/]")
