"""``cdcctl replay``: a range of the stream again."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from cdcctl.change_options import Tables, Where
from cdcctl.options import Format, Output, settings
from cdcctl.replay import isolated, manage, to_stdout
from cdcctl.replay.dry_run import foresee
from cdcctl.replay.in_place import Consumer
from cdcctl.replay.manage import Name
from cdcctl.replay.request import begun, fresh_folder, resumed, wanted
from cdcctl.replay.rewind import refuse_filters, rewind
from consumers.replay.shadow import ShadowReplay
from consumers.stream.probe import Probe
from consumers.stream.rate_limit import READS_PER_SECOND
from consumers.worker.registry import find_factory


class Replays(TyperGroup):
    """``replay CONSUMER …`` is ``replay run CONSUMER …``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """What is no command of the group is the consumer, or a flag of `run`."""
        if args and args[0] not in {*self.commands, "-h", "--help"}:
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=Replays, no_args_is_help=True, help="Apply a range of the stream again: cdcctl replay CONSUMER --from TIME."
)
From = Annotated[str | None, typer.Option("--from", help="10m, 2026-11-23T10:00:00Z, an LSN, earliest: by commit.")]
To = Annotated[str | None, typer.Option("--to", help="Up to here (likewise), itself included. [default: the present]")]
Resume = Annotated[
    Path | None, typer.Option("--resume", help="Go on with the replay in this folder, which was cut off.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be read, and for how long.")]


@app.command()
def run(
    context: typer.Context,
    consumer: Name,
    since: From = None,
    until: To = None,
    table: Tables = None,
    where: Where = None,
    into: Annotated[
        Path | None, typer.Option("--into", help="Folder of the fresh satellite. [default: below DATA/replays]")
    ] = None,
    resume: Resume = None,
    in_place: Annotated[
        bool, typer.Option("--in-place", help="Rewind the consumer's own checkpoints instead.")
    ] = False,
    dry_run: DryRun = False,
    reads: Annotated[
        float, typer.Option("--reads", min=0.1, max=5, help="Reads a second on each shard; live consumers share 5.")
    ] = READS_PER_SECOND,
    sink: Annotated[str | None, typer.Option("--sink", help="A sink of your own, as module:name.")] = None,
    output_format: Output = Format.TABLE,
) -> None:
    """Apply a range of changes again: into a fresh satellite beside the live one, which is not touched.

    It ends by itself and says how to look at the fresh satellite, and how to make it the live one. With --in-place the
    consumer's own checkpoints are rewound instead (it must be stopped); positions make that safe: what the satellite
    already has is superseded.

    Example: [bold]cdcctl replay search --from 2026-11-23T10:00:00Z --to 2026-11-23T11:00:00Z --table 'public.*'[/]
    """
    found, factory = settings(context), find_factory(consumer, sink)
    if resume is not None:
        journal = resumed(resume, consumer, (since, until, table, where, into, in_place, dry_run))
        isolated.fill(ShadowReplay(found, factory, resume, journal), reads, output_format)
        return
    chosen, probe = wanted(since, until, table, where), Probe(found.stream)
    if in_place:
        refuse_filters(until, table, where, into)
    begin = probe.start_for(chosen.since, datetime.now(UTC))
    if in_place:
        rewind(Consumer(found, consumer), probe, begin, output_format, dry_run=dry_run)
    elif dry_run:
        foresee(probe, begin, chosen, output_format)
    else:
        folder, journal = fresh_folder(found, consumer, into), begun(consumer, found, chosen, begin, table, where)
        isolated.fill(ShadowReplay(found, factory, folder, journal), reads, output_format)


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
    """Write a range of changes as JSON lines, each key's in order.

    Interrupted, it says how to go on behind the last line it wrote. (-o is how --dry-run answers.)

    Example: [bold]cdcctl replay stdout --from 2h --to 1h --table 'public.*' > changes.jsonl[/]
    """
    found = settings(context)
    if resume is not None:
        journal = resumed(resume, to_stdout.NAME, (since, until, table, where, dry_run))
        to_stdout.write(journal, found, resume)
        return
    chosen, probe = wanted(since, until, table, where), Probe(found.stream)
    begin = probe.start_for(chosen.since, datetime.now(UTC))
    if dry_run:
        foresee(probe, begin, chosen, output_format)
    else:
        to_stdout.write(begun(to_stdout.NAME, found, chosen, begin, table, where), found)


app.command("swap")(manage.swap)
app.command("undo")(manage.undo)
app.command("ls")(manage.list_replays)
