"""Fetches changes that were too large for the stream from where the producer stored them, and checks their hash."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from botocore.config import Config

from cdckit import envelope
from cdckit.change import Change
from cdckit.claim_check import ObjectReference, decode_reference, max_object_bytes, restore
from cdckit.errors import CdcError, ConsumerError, EnvelopeError, TransientSinkError
from consumers.storage.objects import S3Location, S3Objects, is_missing, is_refused

_CONFIG = Config(retries={"mode": "standard", "total_max_attempts": 5}, connect_timeout=5, read_timeout=60)


class Fetcher:
    """Decodes the records of a stream, both whole ones and references. Makes an S3 client at the first S3 reference."""

    def __init__(self) -> None:
        """Opens nothing."""
        self._buckets: dict[str, S3Objects] = {}

    def decode(self, data: bytes) -> Change:
        """Does what `cdckit.envelope.decode` does, for references too.

        Raises EnvelopeError when the object is missing or altered, TransientSinkError when its store does not answer,
        ConsumerError when the store refuses access: every such change would fail, so none becomes a dead letter.
        """
        kept = decode_reference(data)
        return envelope.decode(data if kept is None else restore(kept, self._fetch(kept)))

    def _fetch(self, kept: ObjectReference) -> bytes:
        parts = urlsplit(kept.url)
        if parts.scheme == "file":
            return _read_file(kept, Path(unquote(parts.path)))
        if parts.scheme == "s3":
            return self._read_s3(kept, parts.netloc, parts.path.lstrip("/"))
        raise EnvelopeError(f"an oversized change is stored at {kept.url!r}, which is neither file:// nor s3://")

    def _read_s3(self, kept: ObjectReference, bucket: str, key: str) -> bytes:
        if bucket not in self._buckets:
            self._buckets[bucket] = S3Objects(S3Location(bucket), _s3_error, config=_CONFIG)
        return self._buckets[bucket].get(key, max_object_bytes(kept) + 1)


def _read_file(kept: ObjectReference, path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():  # a record could name a device that never ends
            raise EnvelopeError(f"the oversized change at {kept.url} is not a file")
        with path.open("rb") as file:
            return file.read(max_object_bytes(kept) + 1)
    except FileNotFoundError as error:
        raise _missing_error(kept.url) from error
    except OSError as error:
        raise ConsumerError(
            f"the oversized change at {kept.url} cannot be read: {error}",
            "this host and user must have access to the folder that --oversize names",
        ) from error


def _s3_error(action: str, url: str, error: Exception) -> CdcError:  # noqa: ARG001
    if is_missing(error):
        return _missing_error(url)
    if is_refused(error):
        return ConsumerError(
            f"not allowed to read the oversized change at {url}: {error}",
            "allow s3:GetObject on it, and s3:ListBucket on its bucket (S3 then distinguishes missing from refused)",
        )
    return TransientSinkError(f"{url} cannot be fetched: {error}")


def _missing_error(url: str) -> EnvelopeError:
    return EnvelopeError(
        f"the oversized change at {url} is missing",
        "restore the object, then cdcctl dlq redrive; or publish the row again: cdcctl producer backfill TABLE",
    )
