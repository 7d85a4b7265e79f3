"""One at a time on an object store: an object says whose turn it is, and is renewed while that lasts."""

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

SECONDS = 600.0
"""How long a turn is respected that nobody renews: its process was killed, or cannot reach the store."""


@contextmanager
def turn(bucket: S3Objects, path: str, seconds: float = SECONDS) -> Iterator[None]:
    """The block is the only one in a turn at `path`. Raises SatelliteError when it is another's, or the store fails."""
    mine = _Turn(bucket, path, seconds)
    mine.take()
    try:
        yield
    finally:
        mine.give_back()


@dataclass
class _Turn:
    """Every write of the object is conditional: on there being none, or on the very one that was seen."""

    bucket: S3Objects
    path: str
    seconds: float
    tag: str | None = None
    _ended: threading.Event = field(default_factory=threading.Event)

    def take(self) -> None:
        self.tag = self.bucket.put_if(self.path, _token())
        if self.tag is None and (found := self.bucket.version(self.path)) and found.age_seconds > self.seconds:
            self.tag = self.bucket.put_if(self.path, _token(), found.etag)
        if self.tag is None:
            raise SatelliteError(
                f"another process works on {self.path} of the lake",
                f"try again; a turn that a killed process left is over after {self.seconds:.0f} s",
            )
        self._thread = threading.Thread(target=self._renew, name="turn", daemon=True)
        self._thread.start()

    def give_back(self) -> None:
        self._ended.set()
        self._thread.join()
        with suppress(SatelliteError):  # it is over after a while anyway
            if self.tag is not None and (found := self.bucket.version(self.path)) and found.etag == self.tag:
                self.bucket.delete(self.path)

    def _renew(self) -> None:
        while self.tag is not None and not self._ended.wait(self.seconds / 4):
            try:
                self.tag = self.bucket.put_if(self.path, _token(), self.tag)
            except SatelliteError as error:
                logger.warning("the turn at %s could not be renewed: %s", self.path, error)


def _token() -> bytes:
    return uuid.uuid4().hex.encode()
