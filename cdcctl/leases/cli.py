"""``cdcctl leases``: shows a consumer's leases in DynamoDB."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Annotated

import typer

from cdcctl import output
from cdcctl.options import Format, Output, current_settings
from cdckit.errors import ConsumerError
from consumers.kcl.leases import LeaseTable
from consumers.kcl.properties import renewal_seconds

app = typer.Typer(no_args_is_help=True, help="List the consumers' leases.")


@app.command()
def ls(
    context: typer.Context,
    consumer: Annotated[str, typer.Argument(help="search, parquet, audit, replica, or a custom sink.")],
    output_format: Output = Format.TABLE,
) -> None:
    """List a consumer's leases: shard, checkpoint, owner, and whether a worker renews it (takes a few seconds).

    A checkpoint is a sequence number (and a sub-sequence number in an aggregated record), TRIM_HORIZON, LATEST,
    AT_TIMESTAMP or SHARD_END. `cdcctl replay` moves checkpoints.

    Example: [bold]cdcctl leases ls search -o json[/]
    """
    application = current_settings(context).application(consumer)
    table = LeaseTable(application)
    leases = table.read()
    if leases is None:
        raise ConsumerError(f"{application!r} has no leases: it has never run", f"cdcctl consumer run {consumer}")
    alive = {lease.shard for lease in table.live_leases(renewal_seconds(os.environ))}
    rows = [{**asdict(lease), "alive": shard in alive} for shard, lease in sorted(leases.items())]
    if output_format is Format.JSON:
        output.print_json(rows)
        return
    output.print_table(
        ["shard", "checkpoint", "sub", "owner", "alive", "counter"],
        [
            (row["shard"], row["checkpoint"], row["sub_sequence"], row["owner"] or "-", "yes" if row["alive"] else "no",
             row["counter"]) for row in rows
        ],
    )  # fmt: skip
