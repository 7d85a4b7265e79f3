"""``cdcctl replay``: replays a range of the stream."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from cdcctl.change_options import Tables, Where
from cdcctl.options import Format, Output, current_settings
from cdcctl.replay import isolated, manage, to_stdout
from cdcctl.replay.dry_run import print_estimate
from cdcctl.replay.in_place import ReplayTarget
from cdcctl.replay.manage import Name
from cdcctl.replay.request import new_folder, new_journal, parse_selection, resume_journal
from cdcctl.replay.rewind import refuse_filters, rewind
from consumers.replay.shadow import ShadowReplay
from consumers.stream.probe import Probe
from consumers.stream.rate_limit import READS_PER_SECOND
from consumers.worker.registry import find_factory


class ReplayGroup(TyperGroup):
    """A group in which ``replay CONSUMER …`` means ``replay run CONSUMER …``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Insert `run` when the first argument is not a command of the group."""
        if args and args[0] not in {*self.commands, "-h", "--help"}:
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=ReplayGroup, no_args_is_help=True, help="Replay a range of the stream: cdcctl replay CONSUMER --from TIME."
)
From = Annotated[
    str | None, typer.Option("--from", help="Start, by commit: 10m, 2026-11-23T10:00:00Z, an LSN, earliest.")
]
To = Annotated[str | None, typer.Option("--to", help="End, same formats, inclusive.", show_default="now")]
Resume = Annotated[Path | None, typer.Option("--resume", help="Continue the interrupted replay in this folder.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only estimate how much would be read and how long it takes.")]


@app.command()
def run(
    context: typer.Context,
    consumer: Name,
    since: From = None,
    until: To = None,
    table: Tables = None,
    where: Where = None,
    into: Annotated[
        Path | None, typer.Option("--into", help="Folder of the new satellite.", show_default="below DATA/replays")
    ] = None,
    resume: Resume = None,
    in_place: Annotated[
        bool, typer.Option("--in-place", help="Rewind the consumer's own checkpoints instead.")
    ] = False,
    dry_run: DryRun = False,
    reads: Annotated[
        float,
        typer.Option("--reads", min=0.1, max=5, help="Reads per second and shard; all consumers share a limit of 5."),
    ] = READS_PER_SECOND,
    sink: Annotated[str | None, typer.Option("--sink", help="A custom sink, as module:name.")] = None,
    output_format: Output = Format.TABLE,
) -> None:
    """Replay a range of changes into a new satellite; the live satellite is not modified.

    The command ends at the end of the range and prints how to query the new satellite and how to make it the live one.
    With --in-place the consumer's own checkpoints are rewound instead; the consumer must be stopped. That is safe:
    changes that the satellite already has are superseded, by their positions.

    Example: [bold]cdcctl replay search --from 2026-11-23T10:00:00Z --to 2026-11-23T11:00:00Z --table 'public.*'[/]
    """
    settings, factory = current_settings(context), find_factory(consumer, sink)
    if resume is not None:
        journal = resume_journal(resume, consumer, (since, until, table, where, into, in_place, dry_run))
        isolated.run_replay(ShadowReplay(settings, factory, resume, journal), reads, output_format)
        return
    selected, probe = parse_selection(since, until, table, where), Probe(settings.stream)
    if in_place:
        refuse_filters(until, table, where, into)
    begin = probe.start_for(selected.since, datetime.now(UTC))
    if in_place:
        rewind(ReplayTarget(settings, consumer), probe, begin, output_format, dry_run=dry_run)
    elif dry_run:
        print_estimate(probe, begin, selected, output_format)
    else:
        folder, journal = (
            new_folder(settings, consumer, into),
            new_journal(consumer, settings, selected, begin, table, where),
        )
        isolated.run_replay(ShadowReplay(settings, factory, folder, journal), reads, output_format)


@app.command()
def stdout(
    context: typer.Context,
    since: From = None,
    until: To = None,
    table: Tables = None,
    where: Where = None,
    resume: Resume = None,
    dry_run: DryRun = False,
    output_format: Output = Format.TABLE,
) -> None:
    """Write a range of changes as JSON lines, in order per key.

    When it is interrupted it prints the command that continues after the last line. -o applies to --dry-run only.

    Example: [bold]cdcctl replay stdout --from 2h --to 1h --table 'public.*' > changes.jsonl[/]
    """
    settings = current_settings(context)
    if resume is not None:
        journal = resume_journal(resume, to_stdout.NAME, (since, until, table, where, dry_run))
        to_stdout.write(journal, settings, resume)
        return
    selected, probe = parse_selection(since, until, table, where), Probe(settings.stream)
    begin = probe.start_for(selected.since, datetime.now(UTC))
    if dry_run:
        print_estimate(probe, begin, selected, output_format)
    else:
        to_stdout.write(new_journal(to_stdout.NAME, settings, selected, begin, table, where), settings)


app.command("swap")(manage.swap)
app.command("undo")(manage.undo)
app.command("ls")(manage.list_replays)
