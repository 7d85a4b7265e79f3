"""Object storage: how `deltalake` is told of an S3 that may not be AWS, and which tables lie below a prefix."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TypedDict
from urllib.parse import urlsplit

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from cdckit.errors import SatelliteError, UsageError

_NOT_SO = {"PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey"}


class _Object(TypedDict):
    Bucket: str
    Key: str


def storage_options(url: str) -> dict[str, str]:
    """Options for an ``s3://`` URL: the AWS_* environment, boto3's profiles and roles; commits by conditional put."""
    scheme = urlsplit(url).scheme
    if scheme != "s3":
        raise UsageError(f"a lake cannot be at {scheme}://", "use a folder or s3://bucket/prefix")
    return {"aws_conditional_put": "etag", **_credentials(), **_endpoint()}


@dataclass(frozen=True, slots=True)
class Seen:
    """An object as it is now: what tells it from another, and how old it is, in seconds by the store's own clock."""

    tag: str
    age: float


class Bucket:
    """One bucket and prefix, by boto3: what `deltalake` has no door for."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._url, self._name, self._prefix = url, parts.netloc, parts.path.strip("/")
        self._client = boto3.client("s3", endpoint_url=_endpoint().get("aws_endpoint"))

    def put(self, path: str, content: bytes) -> None:
        """Store an object below the prefix; it is there whole, or not at all. Raises SatelliteError."""
        with self._translated("write"):
            self._client.put_object(**self._object(path), Body=content)

    def put_if(self, path: str, content: bytes, tag: str | None = None) -> str | None:
        """Store it in place of the one with this tag, or where there is none; its tag, or None when it was not so.

        Raises SatelliteError.
        """
        with self._translated("write"):
            try:
                if tag is None:
                    return self._client.put_object(**self._object(path), Body=content, IfNoneMatch="*")["ETag"]
                return self._client.put_object(**self._object(path), Body=content, IfMatch=tag)["ETag"]
            except ClientError as error:
                if error.response["Error"]["Code"] in _NOT_SO:
                    return None
                raise

    def seen(self, path: str) -> Seen | None:
        """An object as it is now; None when there is none. Raises SatelliteError."""
        with self._translated("read"):
            try:
                found = self._client.get_object(**self._object(path))
            except self._client.exceptions.NoSuchKey:
                return None
        found["Body"].close()
        now = parsedate_to_datetime(found["ResponseMetadata"]["HTTPHeaders"]["date"])
        return Seen(found["ETag"], (now - found["LastModified"]).total_seconds())

    def delete(self, path: str) -> None:
        """Remove an object; one that is gone already is no error. Raises SatelliteError."""
        with self._translated("write"):
            self._client.delete_object(**self._object(path))

    def _object(self, path: str) -> _Object:
        return {"Bucket": self._name, "Key": f"{self._prefix}/{path}".lstrip("/")}

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
