"""Verification of one chain against its hashes, its anchors and the keys that are trusted; pure.

It is fed pieces: entries with their stored hashes, and manifests of segments that have expired. An exported file and
the log itself feed the same pieces, so one check serves both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from consumers.audit.proof.anchors import Anchor
from consumers.audit.proof.chain import GENESIS, Break, Entry, link
from consumers.audit.proof.keys import holds
from consumers.audit.proof.segments import Manifest

Piece = tuple[Entry, bytes] | Manifest
Keys = Mapping[str, Ed25519PublicKey]


@dataclass(frozen=True, slots=True)
class Proof:
    """What one chain's verification found. Entries after number `anchored` are linked, but nobody vouches for them.

    `expired` entries are gone by retention: only that they were there, and how they link, is proven.
    """

    chain: str
    entries: int
    expired: int
    last: int
    anchored: int
    broken: Break | None


def prove(chain: str, pieces: Iterable[Piece], anchors: Sequence[Anchor], keys: Keys, log: str | None) -> Proof:
    """Recompute the chain from its start and hold it against the anchors. `log` None: whichever the anchors name."""
    wanted = {anchor.number: anchor for anchor in anchors}
    for anchor in anchors:
        if broken := _bad_anchor(anchor, keys, log):
            return Proof(chain, 0, 0, 0, 0, broken)
    walk = _Walk(chain, wanted, keys)
    for piece in pieces:
        broken = walk.gap(piece) if isinstance(piece, Manifest) else walk.entry(*piece)
        if broken is not None:
            return walk.proof(broken)
    return walk.proof(walk.cut())


@dataclass(slots=True)
class _Walk:
    chain: str
    anchors: Mapping[int, Anchor]
    keys: Keys
    previous: bytes = GENESIS
    number: int = 0
    entries: int = 0
    expired: int = 0
    anchored: int = 0

    def entry(self, entry: Entry, stored: bytes) -> Break | None:
        if entry.number != self.number + 1:
            return self._break(self.number + 1, f"is missing or out of place (number {entry.number} stands there)")
        if entry.chain != self.chain:
            return self._break(entry.number, f"belongs to the chain {entry.chain}")
        self.previous, self.number, self.entries = link(self.previous, entry), entry.number, self.entries + 1
        if self.previous != stored:
            return self._break(entry.number, "does not match its hash: it, or one before it, was altered")
        return self._against_anchor()

    def gap(self, manifest: Manifest) -> Break | None:
        key = self.keys.get(manifest.key)
        if key is None or not holds(key, manifest.signature, manifest.signed):
            return self._break(manifest.first, "is in an expired segment whose manifest no trusted key has signed")
        if (manifest.first, manifest.previous) != (self.number + 1, self.previous.hex()):
            return self._break(self.number + 1, "and what follows do not link to the expired segment's manifest")
        self.previous, self.number = bytes.fromhex(manifest.hash), manifest.last
        self.expired += manifest.last - manifest.first + 1
        return self._against_anchor()

    def cut(self) -> Break | None:
        beyond = max(self.anchors, default=0)
        if beyond <= self.number:
            return None
        anchor = self.anchors[beyond]
        return self._break(self.number + 1, f"is missing: the anchor of {anchor.time} tells of {beyond} entries")

    def proof(self, broken: Break | None) -> Proof:
        return Proof(self.chain, self.entries, self.expired, self.number, self.anchored, broken)

    def _against_anchor(self) -> Break | None:
        anchor = self.anchors.get(self.number)
        if anchor is None:
            return None
        if anchor.hash != self.previous.hex():
            return self._break(
                self.number, f"is not what the anchor of {anchor.time} vouches for: the chain was rewritten before it"
            )
        self.anchored = self.number
        return None

    def _break(self, number: int, reason: str) -> Break:
        return Break(self.chain, number, reason)


def _bad_anchor(anchor: Anchor, keys: Keys, log: str | None) -> Break | None:
    key = keys.get(anchor.key)
    if key is None:
        return Break(anchor.chain, anchor.number, f"has an anchor signed by {anchor.key}, a key that is not trusted")
    if not holds(key, anchor.signature, anchor.signed):
        return Break(anchor.chain, anchor.number, "has an anchor whose signature does not hold")
    if log is not None and anchor.log != log:
        return Break(anchor.chain, anchor.number, f"has an anchor of another log ({anchor.log})")
    return None
