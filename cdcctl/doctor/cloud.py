"""Checks AWS, or the local AWS: credentials, the stream, the leases, permissions and the clock."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from cdcctl.doctor.database import clock_finding
from cdcctl.doctor.finding import Finding, failed, ok, run_check, unknown, warning
from cdcctl.status.downstream import known_consumers
from cdckit.runtime.settings import Settings
from consumers.kcl.leases import LeaseTable
from consumers.kcl.properties import endpoint, is_local
from consumers.stream.reader import kinesis_client
from consumers.stream.shards import is_open, list_shards

_WRITES = {
    "kinesis": ("kinesis:PutRecords", "kinesis:AddTagsToStream"),
    "dynamodb": ("dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem"),
}


def check_cloud(settings: Settings) -> Iterator[Finding]:
    """Check AWS; without credentials or a region, report only that."""
    identity: dict[str, Any] = {}
    found = list(_identity(identity))
    yield from found
    if not identity:
        return
    yield from run_check("stream", lambda: _stream(settings))
    yield from run_check("reading", lambda: _reading(settings))
    yield from run_check("leases", lambda: _leases(settings))
    yield from _permissions(settings, identity)


def _identity(identity: dict[str, Any]) -> Iterator[Finding]:
    where = endpoint("kinesis", os.environ) or f"AWS in {os.environ.get('AWS_REGION') or 'the region of the profile'}"
    before = datetime.now(UTC)
    try:
        answer = boto3.client("sts").get_caller_identity()
    except (ClientError, BotoCoreError) as error:
        fix = "set AWS_REGION and credentials (AWS_PROFILE, a role); for a sandbox: cdcctl local up"
        yield failed("aws", f"{where}: {error}", fix)
        return
    identity.update(answer)
    yield ok("aws", f"{where}, as {answer['Arn']}")
    if date := answer["ResponseMetadata"]["HTTPHeaders"].get("date"):
        yield clock_finding("clock of aws", before, parsedate_to_datetime(date), datetime.now(UTC), exact=1.0)


def _stream(settings: Settings) -> Iterator[Finding]:
    client = kinesis_client()
    try:
        summary = client.describe_stream_summary(StreamName=settings.stream)["StreamDescriptionSummary"]
    except client.exceptions.ResourceNotFoundException:
        yield failed("stream", f"there is no stream {settings.stream!r}", "cdcctl stream create")
        return
    except (ClientError, BotoCoreError) as error:
        yield failed("stream", str(error), "allow kinesis:DescribeStreamSummary (cdcctl aws policy), or fix --stream")
        return
    shards = sum(map(is_open, list_shards(settings.stream, client)))
    mode = summary.get("StreamModeDetails", {}).get("StreamMode", "PROVISIONED").lower()
    yield ok("stream", f"{settings.stream}: {summary['StreamStatus']}, {shards} open shards, {mode}")
    hours = summary["RetentionPeriodHours"]
    if hours <= 24:
        yield warning(
            "retention", f"{hours} h: a consumer that is down for longer loses changes",
            f"aws kinesis increase-stream-retention-period --stream-name {settings.stream} "
            "--retention-period-hours 168",
        )  # fmt: skip
    else:
        yield ok("retention", f"{hours} h")


def _reading(settings: Settings) -> Iterator[Finding]:
    """Read at the tip of a shard: checks that ListShards, GetShardIterator and GetRecords are allowed."""
    client = kinesis_client()
    shard = list_shards(settings.stream, client)[0]["ShardId"]
    try:
        iterator = client.get_shard_iterator(StreamName=settings.stream, ShardId=shard, ShardIteratorType="LATEST")
        client.get_records(ShardIterator=iterator["ShardIterator"], Limit=1)
    except (ClientError, BotoCoreError) as error:
        yield failed("reading", str(error), "cdcctl aws policy tail prints the required permissions")
    else:
        yield ok("reading", "this identity may read the stream")


def _leases(settings: Settings) -> Iterator[Finding]:
    shards = {shard["ShardId"] for shard in list_shards(settings.stream) if is_open(shard)}
    any_leases = False
    for name in known_consumers(settings):
        leases = LeaseTable(settings.application(name)).read()
        if leases is None:
            continue
        any_leases = True
        table = settings.application(name)
        if (
            leases
            and not shards.intersection(leases)
            and all(lease.checkpoint != "SHARD_END" for lease in leases.values())
        ):
            yield failed(
                "leases", f"{table} has no lease of a shard of this stream: it belongs to another stream",
                f"use another --app-prefix, or delete the tables {table}, {table}-CoordinatorState, "
                f"{table}-WorkerMetricStats",
            )  # fmt: skip
        else:
            yield ok("leases", f"{table}: {len(leases)} leases")
    if not any_leases:
        yield ok("leases", "no consumer has run yet; the KCL creates its tables at the first run")


def _permissions(settings: Settings, identity: dict[str, Any]) -> Iterator[Finding]:
    """Writes cannot be tested without side effects, so this uses IAM's policy simulator where that is allowed."""
    if is_local(os.environ):
        yield ok("permissions", "not checked: a local AWS has none")
        return
    stream = f"arn:aws:kinesis:{os.environ.get('AWS_REGION', '*')}:{identity['Account']}:stream/{settings.stream}"
    tables = [
        f"arn:aws:dynamodb:{os.environ.get('AWS_REGION', '*')}:{identity['Account']}:table/{settings.application(name)}"
        for name in known_consumers(settings)
    ]
    try:
        denied = [
            *_denied(identity["Arn"], _WRITES["kinesis"], [stream]),
            *_denied(identity["Arn"], _WRITES["dynamodb"], tables),
        ]
    except (ClientError, BotoCoreError) as error:
        text = f"the policy simulator is not available to this identity: {error}"
        yield unknown("permissions", text, "compare its policies with cdcctl aws policy")
        return
    for action, resource in denied:
        fix = "cdcctl aws policy prints the permissions of each part"
        yield warning("permissions", f"{action} on {resource} is denied", fix)
    if not denied:
        yield ok("permissions", "IAM allows the writes of producer and consumers")


def _denied(arn: str, actions: Sequence[str], resources: Iterable[str]) -> list[tuple[str, str]]:
    answer = boto3.client("iam").simulate_principal_policy(
        PolicySourceArn=principal(arn), ActionNames=list(actions), ResourceArns=list(resources)
    )
    return [
        (result["EvalActionName"], result["EvalResourceName"])
        for result in answer["EvaluationResults"]
        if result["EvalDecision"] != "allowed"
    ]


def principal(arn: str) -> str:
    """The role of an assumed-role session, because the simulator takes roles; other identities unchanged."""
    parts = arn.split(":", 5)
    if parts[2] == "sts" and parts[5].startswith("assumed-role/"):
        return ":".join([*parts[:2], "iam", "", parts[4], f"role/{parts[5].split('/')[1]}"])
    return arn
