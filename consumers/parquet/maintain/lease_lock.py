"""A renewable lease on an object store: one holder at a time; it expires when the holder does not renew it."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from cdckit.errors import SatelliteError
from consumers.storage.objects import S3Objects

logger = logging.getLogger(__name__)

LEASE_SECONDS = 600.0
"""How long a lease stays valid without renewal: its process was killed, or cannot reach the store."""


@contextmanager
def lease_lock(bucket: S3Objects, path: str, seconds: float = LEASE_SECONDS) -> Iterator[None]:
    """Hold the lease at `path` for the duration of the block.

    Raises SatelliteError when another process holds it, or the store fails.
    """
    lease = _Lease(bucket, path, seconds)
    lease.acquire()
    try:
        yield
    finally:
        lease.release()


@dataclass
class _Lease:
    """Every write of the object is conditional: it does not exist yet, or is still the version that was read."""

    bucket: S3Objects
    path: str
    seconds: float
    tag: str | None = None
    _released: threading.Event = field(default_factory=threading.Event)

    def acquire(self) -> None:
        self.tag = self.bucket.put_if(self.path, _token())
        if self.tag is None and (found := self.bucket.version(self.path)) and found.age_seconds > self.seconds:
            self.tag = self.bucket.put_if(self.path, _token(), found.etag)
        if self.tag is None:
            raise SatelliteError(
                f"another process holds the lease {self.path} of the lake",
                f"try again; the lease of a killed process expires after {self.seconds:.0f} s",
            )
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()

    def release(self) -> None:
        self._released.set()
        self._thread.join()
        with suppress(SatelliteError):  # the lease expires anyway
            if self.tag is not None and (found := self.bucket.version(self.path)) and found.etag == self.tag:
                self.bucket.delete(self.path)

    def _renew(self) -> None:
        while self.tag is not None and not self._released.wait(self.seconds / 4):
            try:
                self.tag = self.bucket.put_if(self.path, _token(), self.tag)
            except SatelliteError as error:
                logger.warning("cannot renew the lease %s: %s", self.path, error)


def _token() -> bytes:
    return uuid.uuid4().hex.encode()
