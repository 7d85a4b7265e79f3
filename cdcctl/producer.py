"""``cdcctl producer``: the replication slot to the stream."""

from __future__ import annotations

from typing import Annotated

import typer

from cdcctl import output
from cdcctl.context import Format, Output, settings
from cdcctl.signals import stop_on_signals
from cdckit import logs
from producer import run as producer_run

app = typer.Typer(no_args_is_help=True, help="Publish the source's changes to the stream.")


@app.command()
def run(
    context: typer.Context,
    new_epoch: Annotated[
        bool,
        typer.Option("--new-epoch", help="Accept another server, a restored one, or a lost slot: start a new epoch."),
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log every detail.")] = False,
    output_format: Output = Format.TABLE,
) -> None:
    """Read the slot and publish every change, until Ctrl-C; makes the slot at the first run.

    What the stream has not accepted is not acknowledged: after a crash it is published again, never lost.

    Example: [bold]cdcctl producer run --table 'public.*' --exclude-table '*.audit_log'[/]
    """
    found = settings(context)
    logs.configure("producer", found.log_format, verbose=verbose)
    with stop_on_signals() as stopping:
        result = producer_run.run(found, stopping.is_set, new_epoch=new_epoch)
    if output_format is Format.JSON:
        output.print_json({"changes": result.changes, "records": result.records, "refused": result.refused})
    else:
        output.print_text(f"{result.changes} changes published as {result.records} records")
