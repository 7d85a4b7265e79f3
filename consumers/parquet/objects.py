"""Object storage: how `deltalake` is told of an S3 that may not be AWS, and which tables lie below a prefix."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
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


class Bucket:
    """One bucket and prefix, by boto3: what `deltalake` has no door for."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._url, self._name, self._prefix = url, parts.netloc, parts.path.strip("/")
        self._client = boto3.client("s3", endpoint_url=_endpoint().get("aws_endpoint"))

    def put(self, path: str, content: bytes) -> None:
        """Store an object below the prefix; it is there whole, or not at all. Raises SatelliteError."""
        with self._translated("write"):
            self._client.put_object(Bucket=self._name, Key=f"{self._prefix}/{path}".lstrip("/"), Body=content)

    def table_paths(self) -> Iterator[str]:
        """The paths of the folders three levels down: source/schema/table. Raises SatelliteError."""
        prefix = f"{self._prefix}/" if self._prefix else ""
        with self._translated("list"):
            for source in self._folders(prefix):
                for schema in self._folders(source):
                    yield from (table.removeprefix(prefix).rstrip("/") for table in self._folders(schema))

    def _folders(self, prefix: str) -> Iterator[str]:
        pages = self._client.get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=self._name, Prefix=prefix, Delimiter="/"):
            yield from (found["Prefix"] for found in page.get("CommonPrefixes", []))

    @contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        try:
            yield
        except (BotoCoreError, ClientError) as error:
            raise SatelliteError(
                f"cannot {what} {self._url}: {error}", "check the bucket and the AWS_* variables"
            ) from error


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
