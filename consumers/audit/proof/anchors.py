"""Anchors: signed statements of a chain's length and last hash, stored away from the log.

Someone who can write the log can rewrite a chain with its hashes, but cannot sign an anchor for it, and cannot remove
an anchor that is out of reach (a folder of another host, S3 with Object Lock). So everything up to the last anchor is
proven; later entries are not.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import msgspec

from cdckit.errors import SatelliteError
from consumers.audit.object_store import Objects
from consumers.audit.proof.keys import SigningKey

logger = logging.getLogger(__name__)
ANCHOR_PREFIX = "anchors/"


class Anchor(msgspec.Struct, frozen=True):
    """States that at `time`, entry `number` of `chain` had `hash` (hexadecimal) in the log with this id; signed."""

    log: str
    chain: str
    number: int
    hash: str
    time: str
    key: str
    signature: str = ""

    @property
    def signed(self) -> bytes:
        """The bytes that are signed."""
        fields = [self.log, self.chain, self.number, self.hash, self.time, self.key]
        return b"cdc.audit.anchor:" + msgspec.json.encode(fields)


def make_anchor(key: SigningKey, log: str, chain: str, number: int, digest: bytes) -> Anchor:
    """A signed anchor with the current time."""
    unsigned = Anchor(log, chain, number, digest.hex(), datetime.now(UTC).isoformat(timespec="seconds"), key.id)
    return msgspec.structs.replace(unsigned, signature=key.sign(unsigned.signed))


def put_anchor(objects: Objects, anchor: Anchor) -> None:
    """Store the anchor under ``anchors/CHAIN/NUMBER.json``."""
    objects.put(f"{ANCHOR_PREFIX}{anchor.chain}/{anchor.number:020}.json", msgspec.json.encode(anchor))


def read_anchors(objects: Objects) -> Iterator[Anchor]:
    """All anchors, by chain and number. Raises SatelliteError when one cannot be decoded."""
    for name in objects.names(ANCHOR_PREFIX):
        try:
            yield msgspec.json.decode(objects.get(name), type=Anchor)
        except msgspec.DecodeError as error:
            raise SatelliteError(
                f"the anchor {name} cannot be read: {error}", "it was altered: compare it with a copy"
            ) from error


class Anchorer:
    """Anchors one shard's chain at intervals. When the store of anchors fails, it warns and tries again later."""

    def __init__(
        self,
        objects: Objects,
        key: Callable[[], SigningKey],
        head: Callable[[], tuple[str, int, bytes]],
        interval: float,
    ) -> None:
        """`head` returns the log's id and the chain's last number and hash; `key` the active key, which may rotate."""
        self._objects, self._key, self._head, self._interval = objects, key, head, interval
        self._anchored, self._last_time = 0, time.monotonic()

    def tick(self, chain: str) -> None:
        """Anchor the chain if the interval has passed."""
        if time.monotonic() - self._last_time >= self._interval:
            self.anchor(chain)

    def anchor(self, chain: str) -> None:
        """Anchor the chain now, if it has new entries."""
        self._last_time = time.monotonic()
        log, number, digest = self._head()
        if number == self._anchored:
            return
        try:
            put_anchor(self._objects, make_anchor(self._key(), log, chain, number, digest))
        except SatelliteError as error:
            logger.warning("cannot anchor the chain; entries after %d are not anchored: %s", self._anchored, error)
        else:
            self._anchored = number
