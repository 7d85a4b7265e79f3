"""Stores changes that are too large for any record, in S3 or a folder, and makes the references to them.

An object is named after its content's hash: a change that is published again is stored once.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote, urlsplit

import boto3
import msgspec
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from cdckit.claim_check import ObjectReference, digest_of, encode_reference
from cdckit.errors import StreamError, UsageError
from producer.records import Record

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_CONFIG = Config(retries={"mode": "standard", "total_max_attempts": 4}, connect_timeout=5, read_timeout=15)


class Store(Protocol):
    """Where the objects are stored."""

    def store(self, name: str, body: bytes) -> str:
        """Store the object durably and return its URL. Raises StreamError."""


class ClaimCheck:
    """Stores a record's change and returns a reference to it."""

    def __init__(self, store: Store, source: str) -> None:
        """`source` is the objects' folder in the store."""
        self._store, self._source = store, source

    def __call__(self, record: Record, packed: bytes) -> Record:
        """Return the reference; `packed` is the record's data as gzip. Raises StreamError when it cannot be stored."""
        digest = digest_of(packed)
        url = self._store.store(f"{self._source}/{digest}.json.gz", packed)
        return msgspec.structs.replace(
            record, data=encode_reference(record.data, record.table, ObjectReference(url, digest, len(record.data)))
        )


def open_claim_check(url: str, source: str) -> ClaimCheck | None:
    """Open the store that the setting ``oversize`` names; None when it is empty. Raises UsageError."""
    if not url:
        return None
    parts = urlsplit(url)
    if parts.scheme == "s3" and parts.netloc:
        return ClaimCheck(_Bucket(parts.netloc, parts.path.strip("/")), source)
    if parts.scheme == "file" and not parts.netloc and parts.path.startswith("/"):
        return ClaimCheck(_Folder(Path(parts.path)), source)
    raise UsageError(
        f"oversize cannot be {url!r}", "use s3://BUCKET/PREFIX, or file:///FOLDER that consumers reach too"
    )


class _Folder:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def store(self, name: str, body: bytes) -> str:
        path = self._folder / name
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            _sync(path.parent)
        except OSError as error:
            raise StreamError(
                f"an oversized change cannot be stored in {self._folder}: {error}", "free disk space, or fix --oversize"
            ) from error
        return f"file://{quote(str(path))}"


class _Bucket:
    def __init__(self, bucket: str, prefix: str) -> None:
        self._bucket, self._prefix = bucket, prefix
        self._client: S3Client | None = None

    def store(self, name: str, body: bytes) -> str:
        key = f"{self._prefix}/{name}" if self._prefix else name
        try:
            self._client = self._client or boto3.client("s3", config=_CONFIG)
            self._client.put_object(Bucket=self._bucket, Key=key, Body=body, ContentType="application/gzip")
        except (ClientError, BotoCoreError) as error:
            raise StreamError(
                f"an oversized change cannot be stored in s3://{self._bucket}/{self._prefix}: {error}",
                "nothing was lost and the slot waits; check the bucket's name and region, and s3:PutObject on it",
            ) from error
        return f"s3://{self._bucket}/{key}"


def _sync(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
