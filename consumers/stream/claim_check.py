"""Fetches changes that were too large for the stream from where the producer keeps them, checked by their hash."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from cdckit import envelope
from cdckit.change import Change
from cdckit.claim_check import ObjectReference, decode_reference, max_object_bytes, restore
from cdckit.errors import ConsumerError, EnvelopeError, TransientSinkError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_MISSING = {"NoSuchKey", "NoSuchBucket", "404"}
_REFUSED = {"AccessDenied", "403", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"}
_CONFIG = Config(retries={"mode": "standard", "total_max_attempts": 5}, connect_timeout=5, read_timeout=60)


class Fetcher:
    """Reads the records of a stream, whole ones and references; a client is made when the first object is fetched."""

    def __init__(self) -> None:
        """Nothing is opened yet."""
        self._client: S3Client | None = None

    def decode(self, data: bytes) -> Change:
        """As `cdckit.envelope.decode`, for references too.

        Raises EnvelopeError when the object is missing or altered, TransientSinkError when its store does not answer,
        ConsumerError when the store refuses us: then every such change would fail, so none is given up.
        """
        kept = decode_reference(data)
        return envelope.decode(data if kept is None else restore(kept, self._fetch(kept)))

    def _fetch(self, kept: ObjectReference) -> bytes:
        parts = urlsplit(kept.url)
        if parts.scheme == "file":
            return _from_file(kept, Path(unquote(parts.path)))
        if parts.scheme == "s3":
            return self._from_s3(kept, parts.netloc, parts.path.lstrip("/"))
        raise EnvelopeError(f"an oversized change is kept at {kept.url!r}, which is neither file:// nor s3://")

    def _from_s3(self, kept: ObjectReference, bucket: str, key: str) -> bytes:
        try:
            self._client = self._client or boto3.client("s3", config=_CONFIG)
            return self._client.get_object(Bucket=bucket, Key=key)["Body"].read(max_object_bytes(kept) + 1)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code in _MISSING:
                raise _missing(kept) from error
            if code in _REFUSED:
                raise ConsumerError(
                    f"not allowed to read the oversized change at {kept.url}: {error}",
                    f"allow s3:GetObject (and s3:ListBucket, to tell missing from refused) on the bucket {bucket}",
                ) from error
            raise TransientSinkError(f"{kept.url} cannot be fetched: {error}") from error
        except BotoCoreError as error:
            raise TransientSinkError(f"{kept.url} cannot be fetched: {error}") from error


def _from_file(kept: ObjectReference, path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():  # whoever may put records may name a device that never ends
            raise EnvelopeError(f"the oversized change at {kept.url} is no file")
        with path.open("rb") as file:
            return file.read(max_object_bytes(kept) + 1)
    except FileNotFoundError as error:
        raise _missing(kept) from error
    except OSError as error:
        raise ConsumerError(
            f"the oversized change at {kept.url} cannot be read: {error}",
            "this host and user must reach the folder that --oversize names",
        ) from error


def _missing(kept: ObjectReference) -> EnvelopeError:
    return EnvelopeError(
        f"the oversized change at {kept.url} is missing",
        "restore the object, then cdcctl dlq redrive; or publish the row anew: cdcctl producer backfill TABLE",
    )
