"""Where anchors and sealed segments are kept: a folder, or S3 (with Object Lock: nobody can take one back)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from cdckit.errors import SatelliteError, UsageError
from consumers.storage.files import write_whole

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class Objects(Protocol):
    """Named byte strings. Every method raises SatelliteError when the place does not answer."""

    def put(self, name: str, data: bytes) -> None:
        """Keep `data` under `name`; durable when this returns."""

    def get(self, name: str) -> bytes:
        """What is kept under `name`."""

    def names(self, prefix: str = "") -> Sequence[str]:
        """All names that begin with `prefix`, sorted."""

    def delete(self, name: str) -> None:
        """Forget it; one that is gone already is no error."""


def open_objects(url: str, default: Path, lock_days: int = 0) -> Objects:
    """The place that `url` names (a folder or ``s3://BUCKET/PREFIX``), else the folder `default`. Raises UsageError."""
    if not url:
        return FolderObjects(default)
    parts = urlsplit(url)
    if parts.scheme == "s3" and parts.netloc:
        return S3Objects(parts.netloc, parts.path.strip("/"), lock_days)
    if parts.scheme in ("", "file") and not parts.netloc and parts.path:
        return FolderObjects(Path(parts.path).expanduser())
    raise UsageError(f"{url!r} is no place for an audit log's files", "use a folder or s3://BUCKET/PREFIX")


class FolderObjects:
    """Files below a folder, each written whole (fsync, rename)."""

    def __init__(self, folder: Path) -> None:
        """Nothing is made before the first `put`."""
        self._folder = folder

    def put(self, name: str, data: bytes) -> None:
        """Durable when this returns."""
        path = self._folder / name
        with self._translated():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_whole(path, data)

    def get(self, name: str) -> bytes:
        """The file's bytes."""
        with self._translated():
            return (self._folder / name).read_bytes()

    def names(self, prefix: str = "") -> Sequence[str]:
        """Files, by their paths below the folder."""
        found = (path for path in self._folder.rglob("*") if path.is_file() and not path.name.startswith("."))
        names = sorted(str(path.relative_to(self._folder)) for path in found)
        return [name for name in names if name.startswith(prefix)]

    def delete(self, name: str) -> None:
        """Remove the file."""
        (self._folder / name).unlink(missing_ok=True)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise SatelliteError(f"the audit log's files in {self._folder}: {error}", "see the cause") from error


class S3Objects:
    """Objects below a prefix; with `lock_days`, each is locked (COMPLIANCE) for that long."""

    def __init__(self, bucket: str, prefix: str, lock_days: int = 0, client: S3Client | None = None) -> None:
        """`client` defaults to one by the standard AWS settings."""
        self._bucket, self._prefix, self._days = bucket, f"{prefix}/" if prefix else "", lock_days
        with self._translated("reach"):
            self._client = client or boto3.client("s3")

    def put(self, name: str, data: bytes) -> None:
        """S3 answers when the object is durable."""
        with self._translated("write"):
            if self._days:
                self._client.put_object(
                    Bucket=self._bucket, Key=self._prefix + name, Body=data, ChecksumAlgorithm="SHA256",
                    ObjectLockMode="COMPLIANCE",
                    ObjectLockRetainUntilDate=datetime.now(UTC) + timedelta(days=self._days),
                )  # fmt: skip
            else:
                self._client.put_object(Bucket=self._bucket, Key=self._prefix + name, Body=data)

    def get(self, name: str) -> bytes:
        """The object's bytes."""
        with self._translated("read"):
            return self._client.get_object(Bucket=self._bucket, Key=self._prefix + name)["Body"].read()

    def names(self, prefix: str = "") -> Sequence[str]:
        """Keys, without the prefix."""
        with self._translated("list"):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix + prefix
            )
            keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
        return sorted(key.removeprefix(self._prefix) for key in keys)

    def delete(self, name: str) -> None:
        """Delete the object; a locked one is refused by S3."""
        with self._translated("delete from"):
            self._client.delete_object(Bucket=self._bucket, Key=self._prefix + name)

    @contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        try:
            yield
        except (ClientError, BotoCoreError) as error:
            raise SatelliteError(
                f"cannot {what} s3://{self._bucket}/{self._prefix}: {error}",
                "check the bucket, its region, and s3:PutObject, GetObject, ListBucket on it",
            ) from error
