"""The least IAM policy of each part, from the settings in force: these actions on these resources, and no other; pure.

Which calls the parts make was seen on the wire (tests/acceptance/test_aws_calls.py holds both sides together).
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
"""An IAM policy document."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the resources are, and what the settings do not tell of them.

    `stream_key` and `bucket_key` are ARNs of KMS keys of one's own; `database` is RDS's resource id (``db-…``).
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


def producer(settings: Settings, place: Place) -> Policy:
    """Put on the stream, keep the tag that says which server it follows, and log in. Raises UsageError."""
    stream = place.stream(settings.stream)
    statements = [
        _allow(
            "Stream",
            ["AddTagsToStream", "DescribeStreamSummary", "ListShards", "ListTagsForStream", "PutRecords"],
            "kinesis", stream,
        ),
        *_key("StreamKey", ["GenerateDataKey"], place.stream_key, "kinesis", place),
        *_login(settings, place),
        *_mask_key(settings, place),
        *_keeping_oversized(settings, place),
    ]  # fmt: skip
    return _policy(statements)


def tail(settings: Settings, place: Place) -> Policy:
    """Read the stream, as `cdcctl tail` does."""
    actions = ["DescribeStreamSummary", "GetRecords", "GetShardIterator", "ListShards"]
    statements = [
        _allow("Stream", actions, "kinesis", place.stream(settings.stream)),
        *_key("StreamKey", ["Decrypt"], place.stream_key, "kinesis", place),
        *_fetching_oversized(settings, place),
    ]
    return _policy(statements)


def consumer(settings: Settings, name: str, place: Place, *, fan_out: bool = False) -> Policy:
    """Read the stream under the KCL, keep its three lease tables, and write the satellite. Raises UsageError."""
    statements = [
        *_reading(settings, name, place, fan_out=fan_out),
        *_key("StreamKey", ["Decrypt"], place.stream_key, "kinesis", place),
        *_fetching_oversized(settings, place),
        *_leases(settings.application(name), place),
        _metrics(settings.application(name)),
        *_satellite(name, settings.options(name), place),
        *_dead_letters(settings.dead_letters, name, place),
    ]
    return _policy(statements)


def _reading(settings: Settings, name: str, place: Place, *, fan_out: bool) -> Iterable[Policy]:
    stream = place.stream(settings.stream)
    if not fan_out:
        yield _allow("Stream", ["GetRecords", "GetShardIterator", "ListShards"], "kinesis", stream)
        return
    yield _allow("Stream", ["DescribeStreamSummary", "ListShards", "RegisterStreamConsumer"], "kinesis", stream)
    # a consumer's ARN ends in the time at which it was registered
    registered = f"{stream}/consumer/{settings.application(name)}:*"
    yield _allow("FanOut", ["DescribeStreamConsumer", "SubscribeToShard"], "kinesis", registered)


def _leases(application: str, place: Place) -> Iterable[Policy]:
    table = place.table(application)
    common = ["CreateTable", "DescribeTable", "DeleteItem", "GetItem", "PutItem", "Scan", "UpdateItem"]
    yield _allow("Leases", [*common, "UpdateTable"], "dynamodb", table)
    yield _allow("LeasesByOwner", ["Query"], "dynamodb", f"{table}/index/{LEASE_INDEX}")
    yield _allow("Coordinator", common, "dynamodb", f"{table}-CoordinatorState")
    yield _allow(
        "WorkerMetrics", ["CreateTable", "DescribeTable", "DeleteItem", "Scan", "UpdateItem"], "dynamodb",
        f"{table}-WorkerMetricStats",
    )  # fmt: skip


def _metrics(application: str) -> Policy:
    """CloudWatch knows no resources for this action: the namespace is what can be named."""
    condition = {"StringEquals": {"cloudwatch:namespace": application}}
    return {**_allow("Metrics", ["PutMetricData"], "cloudwatch", "*"), "Condition": condition}


def _satellite(name: str, options: Mapping[str, Any], place: Place) -> Iterable[Policy]:
    if name == "parquet" and options.get("url"):
        yield from _lake(str(options["url"]), place)
    if name == "search" and options.get("engine") == "opensearch":
        yield from _opensearch(str(options.get("url", "")), place)
    if name == "audit":
        yield from _audit(options, place)


def _lake(url: str, place: Place) -> Iterable[Policy]:
    bucket, prefix = _s3(url, "[consumers.parquet] url")
    yield _listing("LakeList", bucket, prefix, place)
    actions = ["AbortMultipartUpload", "DeleteObject", "GetObject", "PutObject"]
    yield _allow("Lake", actions, "s3", _objects(bucket, prefix, place))
    yield from _key("LakeKey", ["Decrypt", "GenerateDataKey"], place.bucket_key, "s3", place)


def _audit(options: Mapping[str, Any], place: Place) -> Iterable[Policy]:
    """The consumer only ever adds anchors: whoever takes over its role cannot take one back."""
    url = str(options.get("anchors", ""))
    if not url.startswith("s3://"):
        return
    bucket, prefix = _s3(url, "[consumers.audit] anchors")
    actions = ["PutObject", "PutObjectRetention"] if options.get("anchor_lock_days") else ["PutObject"]
    yield _allow("Anchors", actions, "s3", _objects(bucket, prefix, place))
    yield from _key("AnchorsKey", ["GenerateDataKey"], place.bucket_key, "s3", place)


def _opensearch(url: str, place: Place) -> Iterable[Policy]:
    domain = _OPENSEARCH.search(urlsplit(url).hostname or "")
    if domain is None:
        return  # not a domain of AWS's, or one by a name of one's own: user and password are in the URL
    resource = f"arn:{place.partition}:es:{domain[2]}:{place.account}:domain/{domain[1]}/*"
    yield _allow("Index", ["ESHttpDelete", "ESHttpGet", "ESHttpHead", "ESHttpPost", "ESHttpPut"], "es", resource)


def _dead_letters(url: str, name: str, place: Place) -> Iterable[Policy]:
    if url.startswith("s3://"):
        bucket, prefix = _s3(url, "dead_letters")
        yield _allow("DeadLetters", ["PutObject"], "s3", _objects(bucket, f"{prefix}{name}/", place))
        yield from _key("DeadLettersKey", ["GenerateDataKey"], place.bucket_key, "s3", place)
    elif queue := _QUEUE.match(url):
        arn = f"arn:{place.partition}:sqs:{place.region}:{queue[1]}:{queue[2]}"
        yield _allow("DeadLetters", ["SendMessage"], "sqs", arn)


def _login(settings: Settings, place: Place) -> Iterable[Policy]:
    if settings.dsn_secret:
        yield _secret("Secret", settings.dsn_secret, place)
    if is_yes(settings.iam_auth):
        user = re.search(r"(?:\buser\s*=\s*'?|://)([\w.-]+)", settings.dsn)
        if user is None or not place.database:
            raise UsageError(
                "IAM authentication names the database's resource id and the user",
                "add --database db-ABC… (aws rds describe-db-instances, DbiResourceId) and a user in --dsn (CDC_DSN)",
            )
        yield _allow("Login", ["connect"], "rds-db", place.arn("rds-db", f"dbuser:{place.database}/{user[1]}"))


def _mask_key(settings: Settings, place: Place) -> Iterable[Policy]:
    name = settings.mask_key.removeprefix("secretsmanager:")
    if name.startswith("arn:") or name != settings.mask_key:
        yield _secret("MaskKey", name, place)


def _secret(sid: str, name: str, place: Place) -> Policy:
    """Of a secret's name Secrets Manager makes the ARN with a dash and six characters."""
    arn = name if name.startswith("arn:") else place.arn("secretsmanager", f"secret:{name}-??????")
    return _allow(sid, ["GetSecretValue"], "secretsmanager", arn)


def _keeping_oversized(settings: Settings, place: Place) -> Iterable[Policy]:
    if settings.oversize.startswith("s3://"):
        bucket, prefix = _s3(settings.oversize, "oversize")
        yield _allow("Oversized", ["PutObject"], "s3", _objects(bucket, f"{prefix}{settings.source}/", place))
        yield from _key("OversizedKey", ["GenerateDataKey"], place.bucket_key, "s3", place)


def _fetching_oversized(settings: Settings, place: Place) -> Iterable[Policy]:
    """Without ListBucket, and that without a condition, S3 says of a missing object that it is denied."""
    if settings.oversize.startswith("s3://"):
        bucket, prefix = _s3(settings.oversize, "oversize")
        yield _allow("Oversized", ["GetObject"], "s3", _objects(bucket, prefix, place))
        yield _allow("OversizedMissing", ["ListBucket"], "s3", f"arn:{place.partition}:s3:::{bucket}")
        yield from _key("OversizedKey", ["Decrypt"], place.bucket_key, "s3", place)


def _key(sid: str, actions: Sequence[str], key: str, service: str, place: Place) -> Iterable[Policy]:
    if key:
        via = {"StringEquals": {"kms:ViaService": f"{service}.{place.region}.amazonaws.com"}}
        yield {**_allow(sid, actions, "kms", key), "Condition": via}


def _s3(url: str, setting: str) -> tuple[str, str]:
    """Bucket, and prefix with its slash."""
    parts = urlsplit(url)
    if parts.scheme != "s3" or not parts.netloc:
        raise UsageError(f"{setting} is {url!r}: no policy is known for that", "use s3://BUCKET/PREFIX")
    prefix = parts.path.strip("/")
    return parts.netloc, f"{prefix}/" if prefix else ""


def _listing(sid: str, bucket: str, prefix: str, place: Place) -> Policy:
    statement = _allow(sid, ["ListBucket"], "s3", f"arn:{place.partition}:s3:::{bucket}")
    return {**statement, "Condition": {"StringLike": {"s3:prefix": f"{prefix}*"}}} if prefix else statement


def _objects(bucket: str, prefix: str, place: Place) -> str:
    return f"arn:{place.partition}:s3:::{bucket}/{prefix}*"


def _allow(sid: str, actions: Sequence[str], service: str, resource: str) -> dict[str, Any]:
    named = [f"{service}:{action}" for action in sorted(actions)]
    return {"Sid": sid, "Effect": "Allow", "Action": named, "Resource": resource}


def _policy(statements: Iterable[Policy]) -> Policy:
    return {"Version": "2012-10-17", "Statement": list(statements)}
