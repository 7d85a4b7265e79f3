"""Object storage: how `deltalake` is told of an S3 that may not be AWS, and which tables lie below a prefix."""

from __future__ import annotations

import os
from collections.abc import Iterator
from urllib.parse import urlsplit

import boto3

from cdckit.errors import SatelliteError, UsageError
from consumers.storage.objects import S3Location, S3Objects, raising


def storage_options(url: str) -> dict[str, str]:
    """Options for an ``s3://`` URL: the AWS_* environment, boto3's profiles and roles; commits by conditional put."""
    scheme = urlsplit(url).scheme
    if scheme != "s3":
        raise UsageError(f"a lake cannot be at {scheme}://", "use a folder or s3://bucket/prefix")
    return {"aws_conditional_put": "etag", **_credentials(), **_endpoint()}


def open_objects(url: str) -> S3Objects:
    """The lake's objects: for what `deltalake` offers no way. Raises SatelliteError."""
    location = S3Location.parse(url)
    if location is None:
        raise UsageError(f"{url!r} names no bucket", "use a folder or s3://bucket/prefix")
    return S3Objects(location, raising(SatelliteError))


def table_paths(objects: S3Objects) -> Iterator[str]:
    """The paths of the folders three levels down: source/schema/table. Raises SatelliteError."""
    for source in objects.folders():
        for schema in objects.folders(source):
            yield from (table.rstrip("/") for table in objects.folders(schema))


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
