"""``cdcctl producer``: the replication slot to the stream."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict, replace
from enum import StrEnum
from typing import Annotated

import typer

from cdcctl import output
from cdcctl.options import Format, Output, settings
from cdcctl.timespec import parse_rate
from cdckit.errors import SlotLost, SourceError
from cdckit.runtime import logs
from cdckit.runtime.child_process import module_command
from cdckit.runtime.settings import environ_of
from cdckit.runtime.signals import stop_on_signals
from producer.postgres.connection import Source
from producer.postgres.credentials import SourceDsn
from producer.postgres.slot_monitor import judge, parse_size
from producer.snapshot.backfill import Asked, backfill, chosen
from producer.snapshot.coordinator import WORKERS
from producer.snapshot.progress import telling

app = typer.Typer(no_args_is_help=True, help="Publish the source's changes to the stream.")


class Snapshot(StrEnum):
    """Whether rows come before the stream."""

    NONE = "none"
    INITIAL = "initial"


@app.command()
def run(
    context: typer.Context,
    new_epoch: Annotated[
        bool,
        typer.Option("--new-epoch", help="Accept another server, a restored one, or a lost slot: start a new epoch."),
    ] = False,
    aggregate: Annotated[
        bool | None,
        typer.Option(
            "--aggregate/--no-aggregate", help="Pack a shard's changes into KPL records (fewer, larger puts)."
        ),
    ] = None,
    snapshot: Annotated[
        Snapshot, typer.Option("--snapshot", help="initial: the rows that are there when the slot is made come first.")
    ] = Snapshot.NONE,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log every detail.")] = False,
    output_format: Output = Format.TABLE,
) -> None:
    """Read the slot and publish every change, until Ctrl-C; makes the slot at the first run.

    What the stream has not accepted is not acknowledged: after a crash it is published again, never lost.

    Example: [bold]cdcctl producer run --table 'public.*' --exclude-table '*.audit_log' --metrics-port 9187[/]
    """
    found = settings(context)
    if aggregate is not None:
        found = replace(found, aggregate="yes" if aggregate else "no")
    command = [*module_command("producer.cli"), "--output", output_format.value, "--snapshot", snapshot.value]
    command += ["--new-epoch"] if new_epoch else []
    command += ["--verbose"] if verbose else []
    # this process becomes the producer: the satellites' libraries that cdcctl has loaded would double its memory
    environ = {**os.environ, **environ_of(found), "CDC_CONFIG": os.devnull}
    os.execve(sys.executable, command, environ)  # noqa: S606 -- our own interpreter


@app.command("backfill")
def run_backfill(
    context: typer.Context,
    tables: Annotated[list[str], typer.Argument(metavar="TABLE...", help="Tables, or globs like 'public.*'.")],
    where: Annotated[str, typer.Option("--where", help="Only rows that satisfy this SQL condition.")] = "",
    rate: Annotated[
        str | None, typer.Option("--rate", help="Rows a second at most, like 5000/s. [default: as fast as it goes]")
    ] = None,
    workers: Annotated[int, typer.Option("--workers", min=1, max=16, help="Processes that read.")] = WORKERS,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log every detail.")] = False,
    output_format: Output = Format.TABLE,
) -> None:
    """Publish a table's rows anew, while changes flow: for a satellite that starts late, or lost something.

    A row never overwrites a newer change and never brings a deleted one back. Ctrl-C pauses it: the same command goes
    on where it ended. Several may run at once.

    Example: [bold]cdcctl producer backfill public.orders --where "placed_at > '2026-10-01'" --rate 5000/s[/]
    """
    found = settings(context)
    logs.configure("backfill", found.log_format, verbose=verbose)
    asked = Asked(chosen(found, tables), where, parse_rate(rate), workers)
    with stop_on_signals() as stopping, telling("backfill") as tell:
        figures, done = backfill(found, asked, stopping.is_set, tell)
    if output_format is Format.JSON:
        output.print_json(
            {"rows": figures.rows, "tables": figures.tables, "seconds": round(figures.seconds, 3), "complete": done,
             "earlier_rows": figures.before}
        )  # fmt: skip
    else:
        output.print_text(
            f"{figures.rows:,} rows of {figures.tables} table{'s' * (figures.tables != 1)} are on the stream, "
            f"{figures.rate:,.0f} a second"
        )
    if not done:
        output.note("paused: the same command goes on from here")
        raise typer.Exit(130)


@app.command()
def status(context: typer.Context, output_format: Output = Format.TABLE) -> None:
    """Show the slot: who reads it, how much WAL it keeps from removal, and how near that is to its limit.

    Exit status 0 when all is well, 3 when the slot is missing or its WAL is being removed.

    Example: [bold]cdcctl producer status -o json | jq .retained[/]
    """
    found = settings(context)
    budget = parse_size(found.max_retained_wal)
    source = Source(SourceDsn(found)())
    try:
        server, slot = source.server(), source.slot(found.slot)
        keyless = [str(table) for table in source.tables_without_key()]
    finally:
        source.close()
    if slot is None:
        raise SlotLost(
            f"there is no slot {found.slot!r} on this server", "cdcctl producer run makes it, or mend --slot"
        )
    verdict = judge(slot, budget)
    if output_format is Format.JSON:
        shown = {**asdict(slot), "confirmed": str(slot.confirmed), "wal_end": str(server.lsn)}
        shown |= {"system": server.system, "timeline": server.timeline, "level": verdict.level, "share": verdict.share}
        output.print_json({**shown, "behind": server.lsn - slot.confirmed, "tables_without_key": keyless})
    else:
        reader = f"read by the process {slot.active_pid}" if slot.active_pid else "read by nobody"
        output.print_text(f"slot {slot.name} of database {slot.database}: {reader}, wal_status {slot.wal_status}")
        output.print_text(
            f"acknowledged up to {slot.confirmed}, {server.lsn - slot.confirmed:,} bytes behind {server.lsn}"
        )
        output.print_text(f"{verdict.level}: {verdict.text}")
        for table in keyless:
            output.print_text(f"{table} has no primary key: its updates and deletes are not decoded")
    if verdict.level == "danger":
        raise SourceError(verdict.text, verdict.hint)
