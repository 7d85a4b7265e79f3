"""``cdcctl producer``: the replication slot to the stream."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict, replace
from typing import Annotated

import typer

from cdcctl import output
from cdcctl.context import Format, Output, settings
from cdckit.errors import SlotLost, SourceError
from cdckit.settings import environ_of
from producer.credentials import SourceDsn
from producer.guard import judge, parse_size
from producer.source import Source

app = typer.Typer(no_args_is_help=True, help="Publish the source's changes to the stream.")


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
    command = [sys.executable, "-m", "producer.main", "--output", output_format.value]
    command += ["--new-epoch"] if new_epoch else []
    command += ["--verbose"] if verbose else []
    # this process becomes the producer: the satellites' libraries that cdcctl has loaded would double its memory
    environ = {**os.environ, **environ_of(found), "CDC_CONFIG": os.devnull}
    os.execve(sys.executable, command, environ)  # noqa: S606 -- our own interpreter


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
