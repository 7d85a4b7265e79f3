"""``cdcctl replay``: the stream again from a chosen time."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from cdcctl import output
from cdcctl.context import Format, Output, settings
from cdcctl.moments import parse_moment
from cdcctl.signals import stop_on_signals
from cdckit.errors import UsageError
from cdckit.settings import Settings
from consumers.leases import LeaseTable
from consumers.properties import is_local
from consumers.reader import kinesis_client
from consumers.registry import find_factory
from consumers.replay import Shadow, check_retention, rewind_marks

_WATCH_LOCAL, _WATCH_AWS = 3.0, 15.0  # longer than a live worker takes to renew its lease


def replay(
    context: typer.Context,
    consumer: Annotated[str, typer.Argument(help="search, parquet, audit, replica, or a sink that is installed.")],
    moment: Annotated[str, typer.Option("--from", help="10m, 2026-11-23T10:00:00Z or earliest, by commit time.")],
    into: Annotated[
        Path | None, typer.Option("--into", help="Folder of the fresh satellite. [default: below DATA/replays]")
    ] = None,
    in_place: Annotated[
        bool, typer.Option("--in-place", help="Rewind the consumer's own checkpoints instead.")
    ] = False,
    sink: Annotated[str | None, typer.Option("--sink", help="A sink of your own, as module:name.")] = None,
    output_format: Output = Format.TABLE,
) -> None:
    """Apply the changes since a time again: into a fresh satellite beside the live one, which is not touched.

    With --in-place the consumer's own checkpoints are rewound instead (it must be stopped); positions make that safe:
    what the satellite already has is superseded.

    Example: [bold]cdcctl replay search --from 2026-11-23T10:00:00Z[/]
    """
    found = settings(context)
    factory = find_factory(consumer, sink)
    wanted = parse_moment(moment)
    check_retention(kinesis_client(), found.stream, wanted, datetime.now(UTC))
    if in_place:
        if into is not None:
            raise UsageError(
                "--in-place rewinds the consumer itself: --into has no place there", "leave one of them out"
            )
        _rewind(found, consumer, wanted, output_format)
        return
    folder = into or found.folder / "replays" / f"{consumer}-{datetime.now(UTC):%Y%m%dT%H%M%S}"
    if (folder / consumer).exists():
        raise UsageError(f"{folder / consumer} exists already", "name another folder with --into")
    with stop_on_signals() as stopping:
        done = Shadow(found, consumer, factory, folder).replay(wanted, stopping.is_set)
        interrupted = stopping.is_set()
    if output_format is Format.JSON:
        output.print_json(
            {"folder": str(done.folder), "read": done.read, "applied": done.outcome.applied, "newest": done.newest,
             "superseded": done.outcome.superseded, "dead_lettered": done.dead_lettered, "complete": not interrupted}
        )  # fmt: skip
    else:
        output.print_text(
            f"{done.read} changes read, {done.outcome.applied} applied, {done.outcome.superseded} superseded, "
            f"{done.dead_lettered} dead-lettered; newest commit {done.newest or '-'}"
        )
        output.note(
            f"the fresh satellite: add [bold]--data {output.escape(str(done.folder))}[/] to any {consumer} command"
        )
    if interrupted:
        raise typer.Exit(130)


def _rewind(found: Settings, consumer: str, moment: datetime, output_format: Format) -> None:
    table = LeaseTable(found.application(consumer))
    if table.read() is None:
        raise UsageError(
            f"{found.application(consumer)!r} never ran: it has no checkpoints", f"cdcctl consumer run {consumer}"
        )
    marks = rewind_marks(found.stream, moment)
    table.rewind(marks, _WATCH_LOCAL if is_local(os.environ) else _WATCH_AWS)
    if output_format is Format.JSON:
        output.print_json({"rewound": marks})
    else:
        output.print_table(["shard", "resumes after"], list(marks.items()))
        output.note(f"rewound; [bold]cdcctl consumer run {consumer}[/] reads from there")
