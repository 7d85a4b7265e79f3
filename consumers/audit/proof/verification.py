"""Verifies one chain against its hashes, its anchors and the trusted keys. Pure.

The input is a sequence of items: entries with their stored hashes, and the manifests of expired segments. The log and
an exported file yield the same items, so both are verified by the same code.
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
    """The result of verifying one chain. Entries after number `anchored` match their hashes, but no anchor covers them.

    Of the `expired` entries only their number and their place in the chain are proven.
    """

    chain: str
    entries: int
    expired: int
    last: int
    anchored: int
    broken: ChainBreak | None


def verify_chain(
    chain: str, items: Iterable[ChainItem], anchors: Sequence[Anchor], keys: PublicKeys, log: str | None
) -> ChainVerification:
    """Compute the chain's hashes from its start and compare them with the anchors. `log` is the log's id, if known."""
    wanted = {anchor.number: anchor for anchor in anchors}
    for anchor in anchors:
        if broken := _bad_anchor(anchor, keys, log):
            return ChainVerification(chain, 0, 0, 0, 0, broken)
    verifier = _Verifier(chain, wanted, keys)
    for item in items:
        broken = verifier.check_manifest(item) if isinstance(item, SegmentManifest) else verifier.check_entry(*item)
        if broken is not None:
            return verifier.result(broken)
    return verifier.result(verifier.check_end())


@dataclass(slots=True)
class _Verifier:
    chain: str
    anchors: Mapping[int, Anchor]
    keys: PublicKeys
    previous: bytes = GENESIS
    number: int = 0
    entries: int = 0
    expired: int = 0
    anchored: int = 0

    def check_entry(self, entry: AuditEntry, stored: bytes) -> ChainBreak | None:
        if entry.number != self.number + 1:
            return self._break(self.number + 1, f"is missing or out of place (entry {entry.number} is in its place)")
        if entry.chain != self.chain:
            return self._break(entry.number, f"belongs to the chain {entry.chain}")
        self.previous, self.number, self.entries = link(self.previous, entry), entry.number, self.entries + 1
        if self.previous != stored:
            return self._break(entry.number, "does not match its hash: this entry or an earlier one was altered")
        return self._check_anchor()

    def check_manifest(self, manifest: SegmentManifest) -> ChainBreak | None:
        key = self.keys.get(manifest.key)
        if key is None or not is_valid_signature(key, manifest.signature, manifest.signed):
            return self._break(manifest.first, "is in an expired segment whose manifest is not signed by a trusted key")
        if (manifest.first, manifest.previous) != (self.number + 1, self.previous.hex()):
            return self._break(self.number + 1, "and later entries do not link to the expired segment's manifest")
        self.previous, self.number = bytes.fromhex(manifest.hash), manifest.last
        self.expired += manifest.last - manifest.first + 1
        return self._check_anchor()

    def check_end(self) -> ChainBreak | None:
        last = max(self.anchors, default=0)
        if last <= self.number:
            return None
        anchor = self.anchors[last]
        return self._break(self.number + 1, f"is missing: the anchor of {anchor.time} covers {last} entries")

    def result(self, broken: ChainBreak | None) -> ChainVerification:
        return ChainVerification(self.chain, self.entries, self.expired, self.number, self.anchored, broken)

    def _check_anchor(self) -> ChainBreak | None:
        anchor = self.anchors.get(self.number)
        if anchor is None:
            return None
        if anchor.hash != self.previous.hex():
            return self._break(
                self.number, f"does not match the anchor of {anchor.time}: the chain was rewritten before it"
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
        return ChainBreak(anchor.chain, anchor.number, "has an anchor whose signature is not valid")
    if log is not None and anchor.log != log:
        return ChainBreak(anchor.chain, anchor.number, f"has an anchor of another log ({anchor.log})")
    return None
