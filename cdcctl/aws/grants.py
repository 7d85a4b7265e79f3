"""Builds the minimal IAM policy of each part from the settings, without I/O.

The actions were recorded from real calls; tests/acceptance/test_aws_calls.py checks that policies and calls agree.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from cdckit.errors import UsageError
from cdckit.runtime.settings import Settings, is_yes

LEASE_INDEX = "LeaseOwnerToLeaseKeyIndex"
_OPENSEARCH = re.compile(r"(?:search|vpc)-(.+)-[a-z0-9]{20,}\.([a-z0-9-]+)\.es\.amazonaws\.com$")
_QUEUE = re.compile(r"(?:sqs\+)?https?://[^/]+/(\d+)/([\w.-]+)$")

Policy = Mapping[str, Any]
"""An IAM policy document, or one of its statements."""


@dataclass(frozen=True, slots=True)
class PolicyScope:
    """Where the resources are, plus what the settings do not contain.

    `stream_key` and `bucket_key` are ARNs of customer-managed KMS keys; `database` is the RDS resource id (``db-…``).
    """

    region: str
    account: str
    partition: str = "aws"
    stream_key: str = ""
    bucket_key: str = ""
    database: str = ""

    def arn(self, service: str, resource: str) -> str:
        """``arn:aws:SERVICE:REGION:ACCOUNT:RESOURCE``."""
        return f"arn:{self.partition}:{service}:{self.region}:{self.account}:{resource}"

    def stream(self, name: str) -> str:
        """A data stream's ARN."""
        return self.arn("kinesis", f"stream/{name}")

    def table(self, name: str) -> str:
        """A DynamoDB table's ARN."""
        return self.arn("dynamodb", f"table/{name}")


def producer(settings: Settings, scope: PolicyScope) -> Policy:
    """Write to the stream, tag it with the source server, and connect to the database. Raises UsageError."""
    stream = scope.stream(settings.stream)
    statements = [
        _allow(
            "Stream",
            ["AddTagsToStream", "DescribeStreamSummary", "ListShards", "ListTagsForStream", "PutRecords"],
            "kinesis", stream,
        ),
        *_key("StreamKey", ["GenerateDataKey"], scope.stream_key, "kinesis", scope),
        *_login(settings, scope),
        *_mask_key(settings, scope),
        *_write_oversized(settings, scope),
    ]  # fmt: skip
    return _policy(statements)


def tail(settings: Settings, scope: PolicyScope) -> Policy:
    """Read the stream, for `cdcctl tail`."""
    actions = ["DescribeStreamSummary", "GetRecords", "GetShardIterator", "ListShards"]
    statements = [
        _allow("Stream", actions, "kinesis", scope.stream(settings.stream)),
        *_key("StreamKey", ["Decrypt"], scope.stream_key, "kinesis", scope),
        *_read_oversized(settings, scope),
    ]
    return _policy(statements)


def consumer(settings: Settings, name: str, scope: PolicyScope, *, fan_out: bool = False) -> Policy:
    """Read the stream with the KCL, write its three DynamoDB tables, and write the satellite. Raises UsageError."""
    statements = [
        *_reading(settings, name, scope, fan_out=fan_out),
        *_key("StreamKey", ["Decrypt"], scope.stream_key, "kinesis", scope),
        *_read_oversized(settings, scope),
        *_leases(settings.application(name), scope),
        _metrics(settings.application(name)),
        *_satellite(name, settings.options(name), scope),
        *_dead_letters(settings.dead_letters, name, scope),
    ]
    return _policy(statements)


def _reading(settings: Settings, name: str, scope: PolicyScope, *, fan_out: bool) -> Iterable[Policy]:
    stream = scope.stream(settings.stream)
    if not fan_out:
        yield _allow("Stream", ["GetRecords", "GetShardIterator", "ListShards"], "kinesis", stream)
        return
    yield _allow("Stream", ["DescribeStreamSummary", "ListShards", "RegisterStreamConsumer"], "kinesis", stream)
    # a consumer's ARN ends with the time of its registration
    registered = f"{stream}/consumer/{settings.application(name)}:*"
    yield _allow("FanOut", ["DescribeStreamConsumer", "SubscribeToShard"], "kinesis", registered)


def _leases(application: str, scope: PolicyScope) -> Iterable[Policy]:
    table = scope.table(application)
    common = ["CreateTable", "DescribeTable", "DeleteItem", "GetItem", "PutItem", "Scan", "UpdateItem"]
    yield _allow("Leases", [*common, "UpdateTable"], "dynamodb", table)
    yield _allow("LeasesByOwner", ["Query"], "dynamodb", f"{table}/index/{LEASE_INDEX}")
    yield _allow("Coordinator", common, "dynamodb", f"{table}-CoordinatorState")
    yield _allow(
        "WorkerMetrics", ["CreateTable", "DescribeTable", "DeleteItem", "Scan", "UpdateItem"], "dynamodb",
        f"{table}-WorkerMetricStats",
    )  # fmt: skip


def _metrics(application: str) -> Policy:
    """PutMetricData has no resource-level permissions, so the policy restricts the namespace."""
    condition = {"StringEquals": {"cloudwatch:namespace": application}}
    return {**_allow("Metrics", ["PutMetricData"], "cloudwatch", "*"), "Condition": condition}


def _satellite(name: str, options: Mapping[str, Any], scope: PolicyScope) -> Iterable[Policy]:
    if name == "parquet" and options.get("url"):
        yield from _lake(str(options["url"]), scope)
    if name == "search" and options.get("engine") == "opensearch":
        yield from _opensearch(str(options.get("url", "")), scope)
    if name == "audit":
        yield from _audit(options, scope)


def _lake(url: str, scope: PolicyScope) -> Iterable[Policy]:
    bucket, prefix = _s3(url, "[consumers.parquet] url")
    yield _listing("LakeList", bucket, prefix, scope)
    actions = ["AbortMultipartUpload", "DeleteObject", "GetObject", "PutObject"]
    yield _allow("Lake", actions, "s3", _objects(bucket, prefix, scope))
    yield from _key("LakeKey", ["Decrypt", "GenerateDataKey"], scope.bucket_key, "s3", scope)


def _audit(options: Mapping[str, Any], scope: PolicyScope) -> Iterable[Policy]:
    """Only PutObject: a consumer never reads or deletes anchors, and neither can an intruder with its role."""
    url = str(options.get("anchors", ""))
    if not url.startswith("s3://"):
        return
    bucket, prefix = _s3(url, "[consumers.audit] anchors")
    actions = ["PutObject", "PutObjectRetention"] if options.get("anchor_lock_days") else ["PutObject"]
    yield _allow("Anchors", actions, "s3", _objects(bucket, prefix, scope))
    yield from _key("AnchorsKey", ["GenerateDataKey"], scope.bucket_key, "s3", scope)


def _opensearch(url: str, scope: PolicyScope) -> Iterable[Policy]:
    domain = _OPENSEARCH.search(urlsplit(url).hostname or "")
    if domain is None:
        return  # not an AWS domain, or a custom endpoint: the URL contains user and password
    resource = f"arn:{scope.partition}:es:{domain[2]}:{scope.account}:domain/{domain[1]}/*"
    yield _allow("Index", ["ESHttpDelete", "ESHttpGet", "ESHttpHead", "ESHttpPost", "ESHttpPut"], "es", resource)


def _dead_letters(url: str, name: str, scope: PolicyScope) -> Iterable[Policy]:
    if url.startswith("s3://"):
        bucket, prefix = _s3(url, "dead_letters")
        yield _allow("DeadLetters", ["PutObject"], "s3", _objects(bucket, f"{prefix}{name}/", scope))
        yield from _key("DeadLettersKey", ["GenerateDataKey"], scope.bucket_key, "s3", scope)
    elif queue := _QUEUE.match(url):
        arn = f"arn:{scope.partition}:sqs:{scope.region}:{queue[1]}:{queue[2]}"
        yield _allow("DeadLetters", ["SendMessage"], "sqs", arn)


def _login(settings: Settings, scope: PolicyScope) -> Iterable[Policy]:
    if settings.dsn_secret:
        yield _secret("Secret", settings.dsn_secret, scope)
    if is_yes(settings.iam_auth):
        user = re.search(r"(?:\buser\s*=\s*'?|://)([\w.-]+)", settings.dsn)
        if user is None or not scope.database:
            raise UsageError(
                "a policy for IAM authentication needs the database's resource id and the user",
                "add --database db-ABC… (aws rds describe-db-instances, DbiResourceId) and a user in --dsn (CDC_DSN)",
            )
        yield _allow("Login", ["connect"], "rds-db", scope.arn("rds-db", f"dbuser:{scope.database}/{user[1]}"))


def _mask_key(settings: Settings, scope: PolicyScope) -> Iterable[Policy]:
    name = settings.mask_key.removeprefix("secretsmanager:")
    if name.startswith("arn:") or name != settings.mask_key:
        yield _secret("MaskKey", name, scope)


def _secret(sid: str, name: str, scope: PolicyScope) -> Policy:
    """Secrets Manager builds the ARN from the name, a dash and six random characters."""
    arn = name if name.startswith("arn:") else scope.arn("secretsmanager", f"secret:{name}-??????")
    return _allow(sid, ["GetSecretValue"], "secretsmanager", arn)


def _write_oversized(settings: Settings, scope: PolicyScope) -> Iterable[Policy]:
    if settings.oversize.startswith("s3://"):
        bucket, prefix = _s3(settings.oversize, "oversize")
        yield _allow("Oversized", ["PutObject"], "s3", _objects(bucket, f"{prefix}{settings.source}/", scope))
        yield from _key("OversizedKey", ["GenerateDataKey"], scope.bucket_key, "s3", scope)


def _read_oversized(settings: Settings, scope: PolicyScope) -> Iterable[Policy]:
    """ListBucket without a condition is needed: otherwise S3 answers AccessDenied for a missing object."""
    if settings.oversize.startswith("s3://"):
        bucket, prefix = _s3(settings.oversize, "oversize")
        yield _allow("Oversized", ["GetObject"], "s3", _objects(bucket, prefix, scope))
        yield _allow("OversizedMissing", ["ListBucket"], "s3", f"arn:{scope.partition}:s3:::{bucket}")
        yield from _key("OversizedKey", ["Decrypt"], scope.bucket_key, "s3", scope)


def _key(sid: str, actions: Sequence[str], key: str, service: str, scope: PolicyScope) -> Iterable[Policy]:
    if key:
        via = {"StringEquals": {"kms:ViaService": f"{service}.{scope.region}.amazonaws.com"}}
        yield {**_allow(sid, actions, "kms", key), "Condition": via}


def _s3(url: str, setting: str) -> tuple[str, str]:
    """Split an S3 URL into the bucket and the prefix with a trailing slash."""
    parts = urlsplit(url)
    if parts.scheme != "s3" or not parts.netloc:
        raise UsageError(f"{setting} is {url!r}: no policy can be made for it", "use s3://BUCKET/PREFIX")
    prefix = parts.path.strip("/")
    return parts.netloc, f"{prefix}/" if prefix else ""


def _listing(sid: str, bucket: str, prefix: str, scope: PolicyScope) -> Policy:
    statement = _allow(sid, ["ListBucket"], "s3", f"arn:{scope.partition}:s3:::{bucket}")
    return {**statement, "Condition": {"StringLike": {"s3:prefix": f"{prefix}*"}}} if prefix else statement


def _objects(bucket: str, prefix: str, scope: PolicyScope) -> str:
    return f"arn:{scope.partition}:s3:::{bucket}/{prefix}*"


def _allow(sid: str, actions: Sequence[str], service: str, resource: str) -> dict[str, Any]:
    named = [f"{service}:{action}" for action in sorted(actions)]
    return {"Sid": sid, "Effect": "Allow", "Action": named, "Resource": resource}


def _policy(statements: Iterable[Policy]) -> Policy:
    return {"Version": "2012-10-17", "Statement": list(statements)}
