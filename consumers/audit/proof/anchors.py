"""Anchors: signed statements of how long a chain is and what its last hash is, kept elsewhere than the log.

Whoever can write the log can rewrite a chain, hashes and all, but cannot sign for it, and cannot take back an anchor
that is out of reach (another host's folder, S3 with Object Lock). So everything up to the last anchor is proven, and
what came after it is not.
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
    """At `time`, entry `number` of `chain` had `hash` (hexadecimal) in the log of this id; signed by that key."""

    log: str
    chain: str
    number: int
    hash: str
    time: str
    key: str
    signature: str = ""

    @property
    def signed(self) -> bytes:
        """The bytes that the signature is over."""
        fields = [self.log, self.chain, self.number, self.hash, self.time, self.key]
        return b"cdc.audit.anchor:" + msgspec.json.encode(fields)


def make_anchor(key: SigningKey, log: str, chain: str, number: int, digest: bytes) -> Anchor:
    """An anchor of now."""
    bare = Anchor(log, chain, number, digest.hex(), datetime.now(UTC).isoformat(timespec="seconds"), key.id)
    return msgspec.structs.replace(bare, signature=key.sign(bare.signed))


def put_anchor(objects: Objects, anchor: Anchor) -> None:
    """Keep it under ``anchors/CHAIN/NUMBER.json``."""
    objects.put(f"{ANCHOR_PREFIX}{anchor.chain}/{anchor.number:020}.json", msgspec.json.encode(anchor))


def read_anchors(objects: Objects) -> Iterator[Anchor]:
    """All anchors, by chain and number. Raises SatelliteError when one is no anchor at all."""
    for name in objects.names(ANCHOR_PREFIX):
        try:
            yield msgspec.json.decode(objects.get(name), type=Anchor)
        except msgspec.DecodeError as error:
            raise SatelliteError(
                f"the anchor {name} cannot be read: {error}", "it was altered: see its copies"
            ) from error


class Anchorer:
    """Anchors one shard's chain every so often; a place that does not answer is tried again later, with a warning."""

    def __init__(
        self,
        objects: Objects,
        key: Callable[[], SigningKey],
        head: Callable[[], tuple[str, int, bytes]],
        every: float,
    ) -> None:
        """`head` tells the log's id and the chain's last number and hash; `key` is asked each time (it may rotate)."""
        self._objects, self._key, self._head, self._every = objects, key, head, every
        self._anchored, self._at = 0, time.monotonic()

    def tick(self, chain: str) -> None:
        """Anchor when it is time."""
        if time.monotonic() - self._at >= self._every:
            self.anchor(chain)

    def anchor(self, chain: str) -> None:
        """Anchor now, if there is anything new."""
        self._at = time.monotonic()
        log, number, digest = self._head()
        if number == self._anchored:
            return
        try:
            put_anchor(self._objects, make_anchor(self._key(), log, chain, number, digest))
        except SatelliteError as error:
            logger.warning("the chain is not anchored since entry %d: %s", self._anchored, error)
        else:
            self._anchored = number
