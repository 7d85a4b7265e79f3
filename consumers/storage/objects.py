"""Objects in S3: URLs, one client per place, whole objects, and botocore's errors as the project's.

Dead letters, oversized changes, the lake and the audit log's anchors all go through this module. It decides what an
S3 error means (`is_missing`, `is_refused`); which error class a caller raises is the caller's choice (`Translate`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from cdckit.errors import CdcError

if TYPE_CHECKING:
    from botocore.config import Config
    from mypy_boto3_s3 import S3Client

Translate = Callable[[str, str, Exception], CdcError]
"""Makes the error to raise from what was tried (``"write"``), the URL and botocore's error."""

_HINT = (
    "check the bucket's name, its region and the AWS_* variables; "
    "s3:PutObject, GetObject, ListBucket and DeleteObject must be allowed on it"
)
_MISSING = {"NoSuchKey", "NoSuchBucket", "404"}
_REFUSED = {"AccessDenied", "403", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"}
_CONDITION_FAILED = {"PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey"}


@dataclass(frozen=True, slots=True)
class S3Location:
    """A bucket and a prefix in it, without slashes around it; the prefix may be empty."""

    bucket: str
    prefix: str = ""

    @classmethod
    def parse(cls, url: str) -> S3Location | None:
        """The location of ``s3://BUCKET/PREFIX``; None when `url` is not such a URL."""
        parts = urlsplit(url)
        if parts.scheme != "s3" or not parts.netloc:
            return None
        return cls(parts.netloc, parts.path.strip("/"))

    def key(self, name: str) -> str:
        """The key of the object `name` below the prefix."""
        return f"{self.prefix}/{name}" if self.prefix else name

    def __truediv__(self, name: str) -> S3Location:
        return S3Location(self.bucket, self.key(name))

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"


@dataclass(frozen=True, slots=True)
class ObjectVersion:
    """An object's entity tag, and its age in seconds by the store's own clock."""

    etag: str
    age_seconds: float


class S3Objects:
    """The objects below one location, by name. Every method raises what `translate` makes of botocore's errors."""

    def __init__(
        self,
        location: S3Location,
        translate: Translate,
        put_arguments: Callable[[], Mapping[str, Any]] = dict,
        config: Config | None = None,
    ) -> None:
        """Makes a client by the standard AWS settings; `put_arguments` are PutObject's beyond bucket, key and body."""
        self._location, self._translate, self._put_arguments = location, translate, put_arguments
        with self._translated("reach"):
            self._client: S3Client = boto3.client("s3", config=config)

    def put(self, name: str, data: bytes) -> None:
        """Store an object. It is durable, and there as a whole, when this returns."""
        with self._translated("write", name):
            self._client.put_object(**self._object(name), Body=data, **self._put_arguments())

    def put_if(self, name: str, data: bytes, etag: str | None = None) -> str | None:
        """Store an object only over the version `etag` (None: only where there is none).

        Returns the new entity tag, or None when the condition did not hold.
        """
        condition: dict[str, Any] = {"IfNoneMatch": "*"} if etag is None else {"IfMatch": etag}
        with self._translated("write", name):
            try:
                return str(self._client.put_object(**self._object(name), Body=data, **condition)["ETag"])
            except ClientError as error:
                if _code(error) in _CONDITION_FAILED:
                    return None
                raise

    def get(self, name: str, max_bytes: int | None = None) -> bytes:
        """An object's bytes; at most `max_bytes` of them."""
        with self._translated("read", name):
            return self._client.get_object(**self._object(name))["Body"].read(max_bytes)

    def version(self, name: str) -> ObjectVersion | None:
        """The current version of an object; None when there is no such object."""
        with self._translated("read", name):
            try:
                answer = self._client.get_object(**self._object(name))
            except self._client.exceptions.NoSuchKey:
                return None
        answer["Body"].close()
        now = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
        return ObjectVersion(answer["ETag"], (now - answer["LastModified"]).total_seconds())

    def names(self, prefix: str = "") -> Sequence[str]:
        """The names of all objects that begin with `prefix`, sorted."""
        keys = [item["Key"] for page in self._pages(prefix) for item in page.get("Contents", [])]
        return sorted(key.removeprefix(self._root) for key in keys)

    def folders(self, prefix: str = "") -> Sequence[str]:
        """The common prefixes one level below `prefix`, each with its final slash."""
        pages = self._pages(prefix, Delimiter="/")
        return [found["Prefix"].removeprefix(self._root) for page in pages for found in page.get("CommonPrefixes", [])]

    def delete(self, name: str) -> None:
        """Delete an object; a missing one is not an error."""
        with self._translated("delete", name):
            self._client.delete_object(**self._object(name))

    @property
    def _root(self) -> str:
        return self._location.key("")

    def _object(self, name: str) -> dict[str, Any]:
        return {"Bucket": self._location.bucket, "Key": self._location.key(name)}

    def _pages(self, prefix: str, **arguments: Any) -> Iterator[Any]:
        paginator = self._client.get_paginator("list_objects_v2")
        with self._translated("list", prefix):
            yield from paginator.paginate(Bucket=self._location.bucket, Prefix=self._root + prefix, **arguments)

    @contextmanager
    def _translated(self, action: str, name: str = "") -> Iterator[None]:
        try:
            yield
        except (ClientError, BotoCoreError) as error:
            raise self._translate(action, str(self._location / name), error) from error


def raising(kind: type[CdcError]) -> Translate:
    """Translates every error to one class, with a hint to name, region and permissions."""
    return lambda action, url, error: kind(f"cannot {action} {url}: {error}", _HINT)


def is_missing(error: Exception) -> bool:
    """Whether S3 says that there is no such object or bucket."""
    return _code(error) in _MISSING


def is_refused(error: Exception) -> bool:
    """Whether S3 refuses the credentials or the permission."""
    return _code(error) in _REFUSED


def _code(error: Exception) -> str:
    return error.response["Error"]["Code"] if isinstance(error, ClientError) else ""
