"""``cdcctl producer``: publishes the changes of the replication slot on the stream."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict, replace
from enum import StrEnum
from typing import Annotated

import typer

from cdcctl import output
from cdcctl.options import Format, Output, current_settings
from cdcctl.timespec import parse_rate
from cdckit.errors import SlotLost, SourceError, UsageError
from cdckit.runtime import logs
from cdckit.runtime.child_process import module_command
from cdckit.runtime.settings import environ_of
from cdckit.runtime.signals import stop_on_signals
from producer.postgres.catalog import unfollowable
from producer.postgres.connection import Source
from producer.postgres.credentials import SourceDsn
from producer.postgres.server import identify_server
from producer.postgres.slot_monitor import evaluate, parse_size
from producer.postgres.slots import find_slot
from producer.snapshot.backfill import BackfillRequest, backfill, select_tables
from producer.snapshot.coordinator import DEFAULT_WORKERS
from producer.snapshot.progress import progress_reporter

app = typer.Typer(no_args_is_help=True, help="Publish the source's changes to the stream.")


class Snapshot(StrEnum):
    """Whether existing rows are published before the changes."""

    NONE = "none"
    INITIAL = "initial"


@app.command()
def run(
    context: typer.Context,
    new_epoch: Annotated[
        bool,
        typer.Option("--new-epoch", help="Start a new epoch: after a restore, on another server, or with a lost slot."),
    ] = False,
    aggregate: Annotated[
        bool | None,
        typer.Option(
            "--aggregate/--no-aggregate",
            help="Pack a shard's changes into KPL-aggregated records (fewer, larger puts).",
        ),
    ] = None,
    snapshot: Annotated[
        Snapshot, typer.Option("--snapshot", help="initial: publish the existing rows first, when the slot is created.")
    ] = Snapshot.NONE,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log every detail.")] = False,
    output_format: Output = Format.TABLE,
) -> None:
    """Read the slot and publish every change until Ctrl-C. The first run creates the slot.

    A change is acknowledged only after the stream has accepted it: after a crash it is published again, never lost.

    Example: [bold]cdcctl producer run --table 'public.*' --exclude-table '*.audit_log' --metrics-port 9187[/]
    """
    settings = current_settings(context)
    if aggregate is not None:
        settings = replace(settings, aggregate="yes" if aggregate else "no")
    command = [*module_command("producer.cli"), "--output", output_format.value, "--snapshot", snapshot.value]
    command += ["--new-epoch"] if new_epoch else []
    command += ["--verbose"] if verbose else []
    # replace this process by the producer: the libraries loaded by cdcctl would double its memory
    environ = {**os.environ, **environ_of(settings), "CDC_CONFIG": os.devnull}
    os.execve(sys.executable, command, environ)  # noqa: S606 -- runs this interpreter


@app.command("backfill")
def run_backfill(
    context: typer.Context,
    tables: Annotated[list[str], typer.Argument(metavar="TABLE...", help="Tables, or globs like 'public.*'.")],
    where: Annotated[str, typer.Option("--where", help="Only rows that satisfy this SQL condition.")] = "",
    rate: Annotated[
        str | None, typer.Option("--rate", help="Maximum rows per second, like 5000/s.", show_default="unlimited")
    ] = None,
    workers: Annotated[
        int, typer.Option("--workers", min=1, max=16, help="Number of reading processes.")
    ] = DEFAULT_WORKERS,
    reset: Annotated[
        bool, typer.Option("--reset", help="Satellites first forget all rows of the tables: after the key changed.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log every detail.")] = False,
    output_format: Output = Format.TABLE,
) -> None:
    """Publish the rows of tables again, alongside the changes: for a satellite that is new or has lost data.

    A row never overwrites a newer change and never restores a deleted row. Ctrl-C pauses the backfill; the same command
    resumes it. Several backfills may run at once.

    Example: [bold]cdcctl producer backfill public.orders --where "placed_at > '2026-10-01'" --rate 5000/s[/]
    """
    settings = current_settings(context)
    logs.configure("backfill", settings.log_format, verbose=verbose)
    if reset and where:
        raise UsageError("--reset and --where cannot be combined", "a reset removes all rows of the tables")
    asked = BackfillRequest(select_tables(settings, tables), where, parse_rate(rate), workers, reset)
    with stop_on_signals() as stopping, progress_reporter("backfill") as tell:
        figures, done = backfill(settings, asked, stopping.is_set, tell)
    if output_format is Format.JSON:
        output.print_json(
            {"rows": figures.rows, "tables": figures.tables, "seconds": round(figures.seconds, 3), "complete": done,
             "earlier_rows": figures.before}
        )  # fmt: skip
    else:
        output.print_text(
            f"{figures.rows:,} rows of {figures.tables} table{'s' * (figures.tables != 1)} are on the stream, "
            f"{figures.rate:,.0f} per second"
        )
    if not done:
        output.note("paused; run the same command again to resume")
        raise typer.Exit(130)


@app.command()
def status(context: typer.Context, output_format: Output = Format.TABLE) -> None:
    """Show the slot: its reader, the WAL that it retains, and how close that is to the limit.

    Exit status 3 when the slot is missing or close to losing WAL, else 0.

    Example: [bold]cdcctl producer status -o json | jq .retained[/]
    """
    settings = current_settings(context)
    budget = parse_size(settings.max_retained_wal)
    source = Source(SourceDsn(settings)())
    try:
        server, slot = identify_server(source), find_slot(source, settings.slot)
        keyless = [str(relation.table) for relation in unfollowable(source)]
    finally:
        source.close()
    if slot is None:
        raise SlotLost(
            f"there is no slot {settings.slot!r} on this server", "cdcctl producer run creates it, or correct --slot"
        )
    status = evaluate(slot, budget)
    if output_format is Format.JSON:
        shown = {**asdict(slot), "confirmed": str(slot.confirmed), "wal_end": str(server.lsn)}
        shown |= {"system": server.system, "timeline": server.timeline, "level": status.level, "share": status.share}
        output.print_json({**shown, "behind": server.lsn - slot.confirmed, "tables_without_key": keyless})
    else:
        reader = f"read by process {slot.active_pid}" if slot.active_pid else "not read by any process"
        output.print_text(f"slot {slot.name} of database {slot.database}: {reader}, wal_status {slot.wal_status}")
        output.print_text(
            f"acknowledged up to {slot.confirmed}, {server.lsn - slot.confirmed:,} bytes behind {server.lsn}"
        )
        output.print_text(f"{status.level}: {status.text}")
        for table in keyless:
            output.print_text(f"{table} has no primary key: its updates and deletes are not decoded")
    if status.level == "danger":
        raise SourceError(status.text, status.hint)
