"""The complete audit log for its readers: the SQLite file, the sealed segments, the anchors and the keys."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from cdckit.errors import SatelliteError
from consumers.audit.object_store import Objects, open_objects
from consumers.audit.options import AuditOptions
from consumers.audit.proof import keys
from consumers.audit.proof.anchors import Anchor, read_anchors
from consumers.audit.proof.chain import GENESIS, AuditEntry, ChainBreak
from consumers.audit.proof.segments import SegmentManifest, SegmentStore
from consumers.audit.proof.verification import ChainItem, ChainVerification, PublicKeys, verify_chain
from consumers.audit.store import AuditStore

SEGMENT_ENTRIES = 50_000
"""The largest number of entries in one segment."""


@dataclass(frozen=True, slots=True)
class AuditLog:
    """One open log."""

    folder: Path
    options: AuditOptions
    store: AuditStore
    segments: SegmentStore
    anchors: Objects

    @property
    def key_folder(self) -> Path:
        """The folder of the signing keys."""
        return self.options.key_folder(self.folder)

    def chain_items(self, chain: str) -> Iterator[ChainItem]:
        """A chain from its first entry: sealed segments (a manifest for an expired one), then the file's entries."""
        sealed = self.store.sealed_count(chain)
        for manifest in self.segments.manifests():
            if manifest.chain == chain and manifest.first <= sealed:
                if self.segments.expired(manifest):
                    yield manifest
                else:
                    yield from self.segments.read(manifest)
        yield from self.store.unsealed_entries(chain)

    def verify(self, root: Ed25519PublicKey | None = None) -> list[ChainVerification]:
        """Verify every chain, including a chain that only anchors mention.

        `root` is the one public key to trust; None trusts all keys in the folder. Raises SatelliteError when something
        cannot be read.
        """
        trusted = (
            keys.public_keys(self.key_folder)
            if root is None
            else keys.trusted_keys(root, keys.read_rotations(self.key_folder))
        )
        anchors: dict[str, list[Anchor]] = {}
        for anchor in read_anchors(self.anchors):
            anchors.setdefault(anchor.chain, []).append(anchor)
        chains = sorted({*self.store.chains(), *anchors})
        return [self._verify(chain, anchors.get(chain, []), trusted) for chain in chains]

    def seal(self, before: str) -> list[SegmentManifest]:
        """Move each chain's oldest entries into segments, up to the first entry committed at or after `before`.

        `before` is ISO 8601 in UTC. A segment is durable before its entries are deleted from the file; after a kill
        between the two, the next call writes the same segment again.
        """
        key, sealed = keys.signing_key(self.key_folder), []
        for chain in self.store.chains():
            while run := list(islice(_sealable(self.store, chain, before), SEGMENT_ENTRIES)):
                manifest = self.segments.write(key, self._hash_before(chain), run)
                self.store.delete_sealed(chain, manifest.last, bytes.fromhex(manifest.hash), manifest.high)
                sealed.append(manifest)
        return sealed

    def _hash_before(self, chain: str) -> bytes:
        query = "SELECT hash FROM sealed WHERE chain = ?"
        row = self.store.connection.execute(query, (chain,)).fetchone()
        return GENESIS if row is None else bytes(row[0])

    def _verify(self, chain: str, anchors: Sequence[Anchor], trusted: PublicKeys) -> ChainVerification:
        try:
            return verify_chain(chain, self.chain_items(chain), anchors, trusted, self.store.log_id)
        except SatelliteError as error:  # the bytes of a segment do not match its manifest
            return ChainVerification(chain, 0, 0, 0, 0, ChainBreak(chain, 1, f"cannot be verified: {error.message}"))


@contextmanager
def open_log(folder: Path, options: AuditOptions | None = None) -> Iterator[AuditLog]:
    """Open the log for reading. Raises SatelliteError when there is none."""
    chosen = options or AuditOptions()
    segments = SegmentStore(open_objects(chosen.segments, folder))
    store = AuditStore(folder, create=False, in_segments=segments.contains)
    try:
        yield AuditLog(folder, chosen, store, segments, open_objects(chosen.anchors, folder, chosen.anchor_lock_days))
    finally:
        store.close()


def _sealable(store: AuditStore, chain: str, before: str) -> Iterator[tuple[AuditEntry, bytes]]:
    for entry, digest in store.unsealed_entries(chain):
        if entry.commit_time >= before:
            return
        yield entry, digest
