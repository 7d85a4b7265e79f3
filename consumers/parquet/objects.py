"""Object storage: how `deltalake` is told of an S3 that may not be AWS, and which tables lie below a prefix."""

from __future__ import annotations

import os
from collections.abc import Iterator
from urllib.parse import urlsplit

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from cdckit.errors import SatelliteError, UsageError


def storage_options(url: str) -> dict[str, str]:
    """Options for an ``s3://`` URL: the AWS_* environment, boto3's profiles and roles; commits by conditional put."""
    scheme = urlsplit(url).scheme
    if scheme != "s3":
        raise UsageError(f"a lake cannot be at {scheme}://", "use a folder or s3://bucket/prefix")
    return {"aws_conditional_put": "etag", **_credentials(), **_endpoint()}


def table_paths(root: str) -> Iterator[str]:
    """The paths below `root` that hold a ``_delta_log``, three levels down: source/schema/table."""
    parts = urlsplit(root)
    prefix = parts.path.strip("/") + "/" if parts.path.strip("/") else ""
    try:
        for source in _folders(parts.netloc, prefix):
            for schema in _folders(parts.netloc, source):
                yield from (table.removeprefix(prefix).rstrip("/") for table in _folders(parts.netloc, schema))
    except (BotoCoreError, ClientError) as error:
        raise SatelliteError(f"cannot list {root}: {error}", "check the bucket and the AWS_* variables") from error


def _folders(bucket: str, prefix: str) -> Iterator[str]:
    pages = boto3.client("s3", endpoint_url=_endpoint().get("aws_endpoint")).get_paginator("list_objects_v2")
    for page in pages.paginate(Bucket=bucket, Prefix=prefix, Delimiter="/"):
        yield from (found["Prefix"] for found in page.get("CommonPrefixes", []))


def _credentials() -> dict[str, str]:
    session = boto3.Session()
    found = session.get_credentials()
    options = {"aws_region": session.region_name or "us-east-1"}
    if found is not None:
        frozen = found.get_frozen_credentials()
        options |= {"aws_access_key_id": frozen.access_key or "", "aws_secret_access_key": frozen.secret_key or ""}
        options |= {"aws_session_token": frozen.token} if frozen.token else {}
    return options


def _endpoint() -> dict[str, str]:
    url = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if not url:
        return {}
    return {"aws_endpoint": url, **({"aws_allow_http": "true"} if url.startswith("http://") else {})}
