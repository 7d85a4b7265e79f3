"""``cdcctl aws``: prints the IAM policies that the parts need."""

from __future__ import annotations

import os
from enum import StrEnum
from typing import Annotated

import boto3
import msgspec
import typer
from botocore.exceptions import BotoCoreError, ClientError

from cdcctl import output
from cdcctl.aws import grants
from cdcctl.options import current_settings
from cdckit.errors import UsageError
from consumers.worker.registry import consumer_names

app = typer.Typer(no_args_is_help=True, help="Print the IAM policies that the parts need.")


class Part(StrEnum):
    """The part that a policy is for."""

    PRODUCER = "producer"
    CONSUMER = "consumer"
    TAIL = "tail"


@app.command()
def policy(
    context: typer.Context,
    part: Annotated[Part, typer.Argument(help="producer, consumer or tail.")],
    name: Annotated[
        str | None, typer.Argument(help="The consumer: search, parquet, audit, replica, or a custom one.")
    ] = None,
    account: Annotated[
        str | None, typer.Option("--account", help="The account number.", show_default="from STS")
    ] = None,
    stream_key: Annotated[str, typer.Option("--stream-key", help="ARN of the stream's KMS key, if it has one.")] = "",
    bucket_key: Annotated[str, typer.Option("--bucket-key", help="ARN of the bucket's KMS key, if it has one.")] = "",
    database: Annotated[str, typer.Option("--database", help="RDS resource id (db-…), for IAM authentication.")] = "",
    fan_out: Annotated[bool, typer.Option("--fan-out", help="For a consumer that runs with --fan-out.")] = False,
) -> None:
    """Print the minimal IAM policy of a part for the current settings, as JSON.

    Example: [bold]cdcctl aws policy consumer parquet --account 123456789012 > parquet.json[/]
    """
    if (part is Part.CONSUMER) != (name is not None):
        known = ", ".join(consumer_names())
        raise UsageError(
            "a name is required for consumer, and only for consumer",
            f"cdcctl aws policy consumer NAME; known: {known}",
        )
    settings, scope = current_settings(context), _scope(account, stream_key, bucket_key, database)
    if part is Part.PRODUCER:
        document = grants.producer(settings, scope)
    elif part is Part.TAIL:
        document = grants.tail(settings, scope)
    else:
        document = grants.consumer(settings, name or "", scope, fan_out=fan_out)
    output.print_plain(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())


def _scope(account: str | None, stream_key: str, bucket_key: str, database: str) -> grants.PolicyScope:
    region = os.environ.get("AWS_REGION") or boto3.Session().region_name
    if not region:
        raise UsageError("a policy needs the region", "set AWS_REGION")
    partition = boto3.Session().get_partition_for_region(region)
    return grants.PolicyScope(region, account or _account(), partition, stream_key, bucket_key, database)


def _account() -> str:
    try:
        return boto3.client("sts").get_caller_identity()["Account"]
    except (ClientError, BotoCoreError) as error:
        raise UsageError(f"cannot get the account number from STS: {error}", "add --account") from error
