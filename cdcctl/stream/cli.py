"""``cdcctl stream``: creates, describes and reshards the Kinesis data stream."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer
from botocore.exceptions import BotoCoreError, ClientError

from cdcctl import output
from cdcctl.options import Format, Output, current_settings
from cdckit.errors import StreamError, UsageError
from consumers.stream.reader import kinesis_client
from consumers.stream.shards import Shard, is_open, list_shards, parents

if TYPE_CHECKING:
    from mypy_boto3_kinesis import KinesisClient

app = typer.Typer(no_args_is_help=True, help="Create, describe and reshard the stream.")
_WAIT_SECONDS = 300


@app.command()
def create(
    context: typer.Context,
    shards: Annotated[
        int | None, typer.Option("--shards", min=1, help="Number of provisioned shards.", show_default="on-demand")
    ] = None,
    retention: Annotated[int, typer.Option("--retention", min=24, max=8760, help="Retention in hours.")] = 168,
) -> None:
    """Create the stream: on-demand, or provisioned with --shards. The retention is a week, to allow for repairs.

    For production use the template in deploy/, which also sets up encryption and alarms.

    Example: [bold]cdcctl stream create --shards 2 --retention 168[/]
    """
    name, client = current_settings(context).stream, kinesis_client()
    with _translated(f"cannot create the stream {name!r}", name):
        if shards is None:
            client.create_stream(StreamName=name, StreamModeDetails={"StreamMode": "ON_DEMAND"})
        else:
            client.create_stream(StreamName=name, ShardCount=shards)
        _wait_until_active(client, name)
        if retention > 24:
            client.increase_stream_retention_period(StreamName=name, RetentionPeriodHours=retention)
            _wait_until_active(client, name)
    output.note(f"[green]created[/] the stream {output.escape(name)}; next: [bold]cdcctl producer run[/]")


@app.command()
def describe(context: typer.Context, output_format: Output = Format.TABLE) -> None:
    """Show the stream: its mode, retention and limits, and each shard with its parents and its share of the keys.

    Example: [bold]cdcctl stream describe -o json | jq .shards[/]
    """
    name, client = current_settings(context).stream, kinesis_client()
    with _translated(f"cannot describe the stream {name!r}", name):
        summary = client.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]
    shards = [_plain(shard) for shard in list_shards(name, client)]
    shown = {
        "name": name,
        "status": summary["StreamStatus"],
        "mode": summary.get("StreamModeDetails", {}).get("StreamMode", "PROVISIONED"),
        "retention_hours": summary["RetentionPeriodHours"],
        "encryption": summary.get("EncryptionType", "NONE"),
        "max_record_kib": summary.get("MaxRecordSizeInKiB", 1024),
        "consumers": summary.get("ConsumerCount", 0),
    }
    if output_format is Format.JSON:
        output.print_json({**shown, "shards": shards})
        return
    for key, value in shown.items():
        output.print_text(f"[bold]{key:<16}[/]{output.escape(str(value))}")
    output.print_text()
    rows = [
        (shard["shard"], shard["state"], f"{shard['share']:.1%}", ", ".join(shard["parents"]) or "-")
        for shard in shards
    ]
    output.print_table(["shard", "state", "share of keys", "parents"], rows)


@app.command()
def reshard(
    context: typer.Context,
    shards: Annotated[int, typer.Option("--shards", min=1, help="The new number of open shards.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
) -> None:
    """Split or merge shards. Producer and consumers adapt while they run, and the order per key is preserved.

    Kinesis splits evenly (UpdateShardCount), at most to double or half. On-demand streams scale automatically.

    Example: [bold]cdcctl stream reshard --shards 4 --yes[/]
    """
    name, client = current_settings(context).stream, kinesis_client()
    before = sum(map(is_open, list_shards(name, client)))
    if before == shards:
        output.note(f"the stream {output.escape(name)} already has {shards} open shards")
        return
    if not yes and not output.confirm(f"Change the stream {name!r} from {before} to {shards} shards?"):
        raise UsageError("nothing was changed", "answer y, or use --yes")
    with _translated(f"cannot reshard the stream {name!r}", name):
        client.update_shard_count(StreamName=name, TargetShardCount=shards, ScalingType="UNIFORM_SCALING")
        _wait_until_active(client, name)
    after = sum(map(is_open, list_shards(name, client)))
    output.note(f"[green]done[/]: {after} open shards; consumers finish the closed shards first")


def _plain(shard: Shard) -> dict[str, Any]:
    keys = shard["HashKeyRange"]
    share = (int(keys["EndingHashKey"]) - int(keys["StartingHashKey"]) + 1) / 2**128
    state = "open" if is_open(shard) else "closed"
    return {"shard": shard["ShardId"], "state": state, "share": share, "parents": parents(shard), **keys}


def _wait_until_active(client: KinesisClient, name: str) -> None:
    deadline = time.monotonic() + _WAIT_SECONDS
    while client.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]["StreamStatus"] != "ACTIVE":
        if time.monotonic() > deadline:
            raise StreamError(f"the stream {name!r} is not active after {_WAIT_SECONDS} s", "cdcctl stream describe")
        time.sleep(0.5)


@contextmanager
def _translated(what: str, name: str) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        hints = {
            "ResourceInUseException": f"it exists or is being changed: cdcctl stream describe --stream {name}",
            "ResourceNotFoundException": "cdcctl stream create, or correct --stream",
            "LimitExceededException": "check the account's shard limit, and the limit on resharding operations per day",
        }
        hint = hints.get(error.response["Error"]["Code"], "see the message; cdcctl doctor checks the rest")
        raise StreamError(f"{what}: {error}", hint) from error
    except BotoCoreError as error:
        raise StreamError(f"{what}: {error}", "check AWS_REGION, AWS_ENDPOINT_URL and the credentials") from error
