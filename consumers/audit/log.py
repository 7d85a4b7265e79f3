"""The whole log as its readers see it: the SQLite file, the sealed segments, the anchors and the keys."""

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
from consumers.audit.proof.chain import AuditEntry, ChainBreak
from consumers.audit.proof.segments import SegmentManifest, SegmentStore
from consumers.audit.proof.verification import ChainItem, ChainVerification, PublicKeys, verify_chain
from consumers.audit.store import AuditStore

SEGMENT_ENTRIES = 50_000


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
        """Where the keys are."""
        return self.options.key_folder(self.folder)

    def pieces(self, chain: str) -> Iterator[ChainItem]:
        """A chain from its first entry: sealed segments (a manifest where one has expired), then the file."""
        sealed = self.store.sealed(chain)
        for manifest in self.segments.manifests():
            if manifest.chain == chain and manifest.first <= sealed:
                if self.segments.expired(manifest):
                    yield manifest
                else:
                    yield from self.segments.read(manifest)
        yield from self.store.linked(chain)

    def verify(self, root: Ed25519PublicKey | None = None) -> list[ChainVerification]:
        """Verify every chain, also one that only anchors tell of. `root` is the key to trust, else all in the folder.

        Raises SatelliteError when something cannot even be read.
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
        """Move entries committed before this time (ISO 8601, UTC) into segments, as long as they stand together.

        A segment is durable before its entries leave the file; dying between the two writes the same segment again.
        """
        key, made = keys.signing_key(self.key_folder), []
        for chain in self.store.chains():
            while run := list(islice(_sealable(self.store, chain, before), SEGMENT_ENTRIES)):
                manifest = self.segments.write(key, self._hash_before(chain), run)
                self.store.give_up_sealed(chain, manifest.last, bytes.fromhex(manifest.hash), manifest.high)
                made.append(manifest)
        return made

    def _hash_before(self, chain: str) -> bytes:
        query = "SELECT hash FROM sealed WHERE chain = ?"
        row = self.store.connection.execute(query, (chain,)).fetchone()
        return bytes(32) if row is None else bytes(row[0])

    def _verify(self, chain: str, anchors: Sequence[Anchor], trusted: PublicKeys) -> ChainVerification:
        try:
            return verify_chain(chain, self.pieces(chain), anchors, trusted, self.store.log)
        except SatelliteError as error:  # a segment whose bytes are not its manifest's
            return ChainVerification(chain, 0, 0, 0, 0, ChainBreak(chain, 1, f"cannot be followed: {error.message}"))


@contextmanager
def open_log(folder: Path, options: AuditOptions | None = None) -> Iterator[AuditLog]:
    """The log, for reading. Raises SatelliteError when there is none."""
    chosen = options or AuditOptions()
    segments = SegmentStore(open_objects(chosen.segments, folder))
    store = AuditStore(folder, create=False, in_segments=segments.holds)
    try:
        yield AuditLog(folder, chosen, store, segments, open_objects(chosen.anchors, folder, chosen.anchor_lock_days))
    finally:
        store.close()


def _sealable(store: AuditStore, chain: str, before: str) -> Iterator[tuple[AuditEntry, bytes]]:
    for entry, digest in store.linked(chain):
        if entry.commit_time >= before:
            return
        yield entry, digest
