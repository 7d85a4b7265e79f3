"""``cdcctl replay``: a range of the stream again."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from msgspec.structs import asdict
from typer.core import TyperGroup

from cdcctl import lines, output
from cdcctl.choosing import Tables, Where, selection
from cdcctl.context import Format, Output, settings
from cdcctl.moments import parse_point
from cdcctl.replaying.in_place import Consumer
from cdcctl.replaying.progress import Progress
from cdcctl.signals import stop_on_signals
from cdcctl.tailing.printers import JsonLines, View
from cdckit.errors import UsageError
from consumers.begin import EARLIEST, Begin
from consumers.estimate import Part, estimate, seconds_to_read
from consumers.feed import Feed
from consumers.points import SLACK, Point
from consumers.probe import Probe
from consumers.reader import READS_A_SECOND, StreamReader
from consumers.registry import find_factory
from consumers.replay import FILE, Journal, Shadow, read_journal, write_journal
from consumers.selection import Selection


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
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be read, and for how long.")]
Name = Annotated[str, typer.Argument(help="search, parquet, audit, replica, or a sink that is installed.")]


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
    resume: Annotated[
        Path | None, typer.Option("--resume", help="Go on with the replay in this folder, which was cut off.")
    ] = None,
    in_place: Annotated[
        bool, typer.Option("--in-place", help="Rewind the consumer's own checkpoints instead.")
    ] = False,
    dry_run: DryRun = False,
    reads: Annotated[
        float, typer.Option("--reads", min=0.1, max=5, help="Reads a second on each shard; live consumers share 5.")
    ] = READS_A_SECOND,
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
        if any((since, until, table, where, into, in_place, dry_run)):
            raise UsageError("--resume goes on as it was begun: no other choice has a place there", "leave them out")
        journal = read_journal(resume)
        _check_resumable(journal, consumer, resume)
        folder = resume
    else:
        if since is None:
            raise UsageError("from where?", "--from 10m, --from 2026-11-23T10:00:00Z, or --resume FOLDER")
        chosen, probe = _chosen(since, until, table, where), Probe(found.stream)
        begin = probe.begin(chosen.since, datetime.now(UTC))
        if in_place:
            _check_in_place(until, table, where, into)
            _in_place(Consumer(found, consumer), probe, begin, output_format, dry_run=dry_run)
            return
        if dry_run:
            _foresee(probe, begin, chosen, output_format)
            return
        folder = into or found.folder / "replays" / f"{consumer}-{datetime.now(UTC):%Y%m%dT%H%M%S}"
        if (folder / consumer).exists() or (folder / FILE).exists():
            raise UsageError(f"{folder} holds a replay already", "name another folder with --into, or use --resume")
        journal = Journal(
            consumer, found.stream, str(chosen.since), None if until is None else str(chosen.until), table or [], where,
            begin, chosen.whole and begin == EARLIEST,
        )  # fmt: skip
    _replay(Shadow(found, factory, folder, journal), reads, output_format)


@app.command("stdout")
def to_stdout(
    context: typer.Context,
    since: From = None,
    until: To = None,
    table: Tables = None,
    where: Where = None,
    dry_run: DryRun = False,
) -> None:
    """Write a range of changes as JSON lines, each key's in order.

    Example: [bold]cdcctl replay stdout --from 2h --to 1h --table 'public.*' > changes.jsonl[/]
    """
    found = settings(context)
    if since is None:
        raise UsageError("from where?", "--from 10m, --from 2026-11-23T10:00:00Z, or --from earliest")
    chosen, probe = _chosen(since, until, table, where), Probe(found.stream)
    begin = probe.begin(chosen.since, datetime.now(UTC))
    if dry_run:
        _foresee(probe, begin, chosen, Format.TABLE)
        return
    printer, progress = JsonLines(View()), Progress()
    with stop_on_signals() as stopping:
        reader = StreamReader(found.stream, begin, stop_when_caught_up=True, stopping=stopping.is_set)
        for page, seen in Feed(reader, chosen).batches():
            printer.show(seen)
            if not sys.stdout.isatty():
                progress.took(page, len(seen))
        progress.close()
        if stopping.is_set():
            raise typer.Exit(130)


@app.command()
def swap(
    context: typer.Context,
    consumer: Name,
    folder: Annotated[Path, typer.Argument(help="The folder of a replay from earliest to the present.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Make a replay's fresh satellite the live one; the consumer (stopped, please) goes on where the replay ended.

    The satellite that was there moves into the replay's folder; `cdcctl replay undo` takes all back.

    Example: [bold]cdcctl replay swap search .cdc/replays/search-20261124T100000[/]
    """
    found, journal = settings(context), read_journal(folder)
    if journal.consumer != consumer:
        raise UsageError(f"{folder} is a replay of {journal.consumer}", "name that consumer")
    question = f"make {folder} the satellite of {consumer}? It holds what changed since {journal.since}, no older row"
    if not yes and not output.confirm(question):
        raise typer.Exit(1)
    backup = Consumer(found, consumer).swap(folder, journal)
    output.note(f"swapped; [bold]cdcctl consumer run {consumer}[/] goes on where the replay ended")
    output.note(f"prove it: [bold]cdcctl verify {consumer}[/]; take it back: [bold]cdcctl replay undo {consumer}[/]")
    output.print_plain(str(backup))


@app.command()
def undo(context: typer.Context, consumer: Name) -> None:
    """Take a consumer's last --in-place or swap back: its leases byte for byte, and the folders. It must be stopped.

    Example: [bold]cdcctl replay undo search[/]
    """
    path = Consumer(settings(context), consumer).undo()
    output.note(f"undone: the leases of {consumer} are as they were before")
    output.print_plain(str(path))


@app.command("ls")
def list_replays(context: typer.Context, output_format: Output = Format.TABLE) -> None:
    """List the replays below the data folder: what was asked for, and how far each has come.

    Example: [bold]cdcctl replay ls -o json[/]
    """
    folder = settings(context).folder / "replays"
    found = [(path.parent, read_journal(path.parent)) for path in sorted(folder.glob(f"*/{FILE}"))]
    if output_format is Format.JSON:
        output.print_json([{"folder": str(path), **asdict(one)} for path, one in found])
    elif found:
        output.print_table(
            ["folder", "from", "to", "read", "applied", "state"],
            [
                (
                    path,
                    one.since,
                    one.until or "the present",
                    one.read,
                    one.applied,
                    _state(one),
                )
                for path, one in found
            ],
        )
    else:
        output.note(f"no replay in {output.escape(str(folder))}")


def _state(journal: Journal) -> str:
    return "done" if journal.complete else "cut off"


def _chosen(since: str, until: str | None, table: list[str] | None, where: str | None) -> Selection:
    return selection(parse_point(since), None if until is None else parse_point(until, future=True), table, where=where)


def _replay(shadow: Shadow, reads: float, output_format: Format) -> None:
    journal, progress = shadow.journal, Progress()
    point = Point() if journal.since == "earliest" else parse_point(journal.since)
    until = None if journal.until is None else parse_point(journal.until, future=True)
    write_journal(shadow.folder, journal)
    with stop_on_signals() as stopping:
        chosen = selection(point, until, journal.tables, where=journal.where)
        try:
            done = shadow.replay(chosen, stopping.is_set, progress.took, reads)
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
            f"{done.read} changes read, {done.applied} applied, {done.superseded} superseded, "
            f"{done.dead_lettered} dead-lettered; newest commit {done.newest or '-'}"
        )
    name, where = done.consumer, output.escape(str(folder))
    if not done.complete:
        output.note(f"cut off; go on: [bold]cdcctl replay {name} --resume {where}[/]")
        return
    output.note(f"look at it: add [bold]--data {where}[/] to any {name} command")
    if done.whole:
        output.note(f"make it the live one, once the consumer is stopped: [bold]cdcctl replay swap {name} {where}[/]")
    if name == "search":
        output.note("an index made anew while it is in use: [bold]cdcctl search reindex[/]")


def _check_resumable(journal: Journal, consumer: str, folder: Path) -> None:
    if journal.consumer != consumer:
        raise UsageError(f"{folder} is a replay of {journal.consumer}", "name that consumer")
    if journal.complete:
        raise UsageError(f"the replay in {folder} is done", "begin another one")


def _check_in_place(until: str | None, table: list[str] | None, where: str | None, into: Path | None) -> None:
    for flag, value in (("--to", until), ("--table", table), ("--where", where), ("--into", into)):
        if value:
            raise UsageError(
                f"--in-place rewinds the consumer itself, and everything comes again: {flag} has no place there",
                "leave one of them out",
            )


def _in_place(consumer: Consumer, probe: Probe, begin: Begin, output_format: Format, *, dry_run: bool) -> None:
    if dry_run:
        found, backup = consumer.planned(probe, begin), None
    else:
        found, backup = consumer.rewind(probe, begin)
    if output_format is Format.JSON:
        output.print_json({"rewound": found.marks, "removed": found.dropped, "backup": backup, "dry_run": dry_run})
    else:
        rows = [*found.marks.items(), *((shard, "made anew when its parents end") for shard in found.dropped)]
        output.print_table(["shard", "resumes after"], rows)
    name = consumer.name
    if not found.marks:
        output.note(f"nothing is moved: {name} has not come further than that")
    elif dry_run:
        output.note("nothing was written: this is what it would be")
    else:
        output.note(
            f"rewound; [bold]cdcctl consumer run {name}[/] reads from there: all changes since then come to it again. "
            "What the satellite has is superseded; a sink that acts (mails, webhooks) acts again."
        )
        output.note(f"take it back: [bold]cdcctl replay undo {name}[/]")


def _foresee(probe: Probe, begin: Begin, chosen: Selection, output_format: Format) -> None:
    now, shards = datetime.now(UTC), probe.shards()
    until = chosen.until
    end = min(now, until.moment + SLACK) if until is not None and until.by_time else now
    parts = estimate(probe, [shard["ShardId"] for shard in shards], begin, end)
    seconds = seconds_to_read(parts, shards)
    if output_format is Format.JSON:
        shown = [
            {"shard": one.shard, "first": one.first, "records": one.records, "bytes": one.bytes, "exact": one.exact}
            for one in parts
        ]
        output.print_json({"shards": shown, "seconds_at_read_limit": round(seconds, 1)})
        return
    output.print_table(
        ["shard", "from sequence number", "records", "bytes"],
        [(one.shard, one.first, _about(one, one.records), _about(one, one.bytes)) for one in parts],
    )
    output.print_text(f"{lines.span(seconds)} at the read limit of 2 MiB/s a shard, which live consumers share")
    output.note("nothing was read or written but samples; filters are applied to what is read")


def _about(part: Part, number: int) -> str:
    return f"{'' if part.exact else '~'}{number:,}"
