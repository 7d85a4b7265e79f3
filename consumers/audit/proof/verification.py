"""Verification of one chain against its hashes, its anchors and the keys that are trusted; pure.

It is fed pieces: entries with their stored hashes, and manifests of segments that have expired. An exported file and
the log itself feed the same pieces, so one check serves both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from consumers.audit.proof.anchors import Anchor
from consumers.audit.proof.chain import GENESIS, AuditEntry, ChainBreak, link
from consumers.audit.proof.keys import is_valid_signature
from consumers.audit.proof.segments import SegmentManifest

ChainItem = tuple[AuditEntry, bytes] | SegmentManifest
PublicKeys = Mapping[str, Ed25519PublicKey]


@dataclass(frozen=True, slots=True)
class ChainVerification:
    """What one chain's verification found. Entries after number `anchored` are linked, but nobody vouches for them.

    `expired` entries are gone by retention: only that they were there, and how they link, is proven.
    """

    chain: str
    entries: int
    expired: int
    last: int
    anchored: int
    broken: ChainBreak | None


def verify_chain(
    chain: str, pieces: Iterable[ChainItem], anchors: Sequence[Anchor], keys: PublicKeys, log: str | None
) -> ChainVerification:
    """Recompute the chain from its start and hold it against the anchors. `log` None: whichever the anchors name."""
    wanted = {anchor.number: anchor for anchor in anchors}
    for anchor in anchors:
        if broken := _bad_anchor(anchor, keys, log):
            return ChainVerification(chain, 0, 0, 0, 0, broken)
    walk = _Walk(chain, wanted, keys)
    for piece in pieces:
        broken = walk.gap(piece) if isinstance(piece, SegmentManifest) else walk.entry(*piece)
        if broken is not None:
            return walk.proof(broken)
    return walk.proof(walk.cut())


@dataclass(slots=True)
class _Walk:
    chain: str
    anchors: Mapping[int, Anchor]
    keys: PublicKeys
    previous: bytes = GENESIS
    number: int = 0
    entries: int = 0
    expired: int = 0
    anchored: int = 0

    def entry(self, entry: AuditEntry, stored: bytes) -> ChainBreak | None:
        if entry.number != self.number + 1:
            return self._break(self.number + 1, f"is missing or out of place (number {entry.number} stands there)")
        if entry.chain != self.chain:
            return self._break(entry.number, f"belongs to the chain {entry.chain}")
        self.previous, self.number, self.entries = link(self.previous, entry), entry.number, self.entries + 1
        if self.previous != stored:
            return self._break(entry.number, "does not match its hash: it, or one before it, was altered")
        return self._against_anchor()

    def gap(self, manifest: SegmentManifest) -> ChainBreak | None:
        key = self.keys.get(manifest.key)
        if key is None or not is_valid_signature(key, manifest.signature, manifest.signed):
            return self._break(manifest.first, "is in an expired segment whose manifest no trusted key has signed")
        if (manifest.first, manifest.previous) != (self.number + 1, self.previous.hex()):
            return self._break(self.number + 1, "and what follows do not link to the expired segment's manifest")
        self.previous, self.number = bytes.fromhex(manifest.hash), manifest.last
        self.expired += manifest.last - manifest.first + 1
        return self._against_anchor()

    def cut(self) -> ChainBreak | None:
        beyond = max(self.anchors, default=0)
        if beyond <= self.number:
            return None
        anchor = self.anchors[beyond]
        return self._break(self.number + 1, f"is missing: the anchor of {anchor.time} tells of {beyond} entries")

    def proof(self, broken: ChainBreak | None) -> ChainVerification:
        return ChainVerification(self.chain, self.entries, self.expired, self.number, self.anchored, broken)

    def _against_anchor(self) -> ChainBreak | None:
        anchor = self.anchors.get(self.number)
        if anchor is None:
            return None
        if anchor.hash != self.previous.hex():
            return self._break(
                self.number, f"is not what the anchor of {anchor.time} vouches for: the chain was rewritten before it"
            )
        self.anchored = self.number
        return None

    def _break(self, number: int, reason: str) -> ChainBreak:
        return ChainBreak(self.chain, number, reason)


def _bad_anchor(anchor: Anchor, keys: PublicKeys, log: str | None) -> ChainBreak | None:
    key = keys.get(anchor.key)
    if key is None:
        return ChainBreak(
            anchor.chain, anchor.number, f"has an anchor signed by {anchor.key}, a key that is not trusted"
        )
    if not is_valid_signature(key, anchor.signature, anchor.signed):
        return ChainBreak(anchor.chain, anchor.number, "has an anchor whose signature does not hold")
    if log is not None and anchor.log != log:
        return ChainBreak(anchor.chain, anchor.number, f"has an anchor of another log ({anchor.log})")
    return None
