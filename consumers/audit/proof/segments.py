"""Sealed segments: old entries of a chain, compressed, with a signed manifest that stays when the segment expires.

A segment is gzip of one JSON array a line, ``[entry, hash]``. Its manifest says where in the chain it stands and what
the hashes before and at its end are, so that a chain is verified across a segment that is gone.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from cdckit.errors import SatelliteError
from consumers.audit.object_store import Objects
from consumers.audit.proof.chain import AuditEntry
from consumers.audit.proof.keys import SigningKey

SEGMENT_PREFIX = "segments/"
Linked = tuple[AuditEntry, bytes]


class SegmentManifest(msgspec.Struct, frozen=True):
    """Entries `first` to `last` of `chain`. Hashes are hexadecimal; `low` and `high` are sort keys of positions."""

    chain: str
    first: int
    last: int
    previous: str
    hash: str
    oldest: str
    newest: str
    low: str
    high: str
    tables: list[str]
    digest: str
    key: str
    signature: str = ""

    @property
    def name(self) -> str:
        """``segments/CHAIN/FIRST-LAST``."""
        return f"{SEGMENT_PREFIX}{self.chain}/{self.first:020}-{self.last:020}"

    @property
    def signed(self) -> bytes:
        """The bytes that the signature is over."""
        return b"cdc.audit.segment:" + msgspec.json.encode(msgspec.structs.replace(self, signature=""))


class _Line(msgspec.Struct, frozen=True, array_like=True):
    entry: AuditEntry
    hash: str


_line = msgspec.json.Decoder(_Line)


class SegmentStore:
    """The sealed segments of one log."""

    def __init__(self, objects: Objects) -> None:
        """`objects` is where they are."""
        self._objects = objects
        self._kept: list[SegmentManifest] | None = None
        self._files: set[str] = set()
        self._sealed = 0
        self._positions: dict[str, frozenset[tuple[str, str]]] = {}

    def write(self, key: SigningKey, previous: bytes, linked: Sequence[Linked]) -> SegmentManifest:
        """Write a segment, then its manifest: durable when this returns. The same entries make the same bytes."""
        lines = b"".join(msgspec.json.encode(_Line(entry, digest.hex())) + b"\n" for entry, digest in linked)
        packed = gzip.compress(lines, 6, mtime=0)
        manifest = _manifest(key, previous, linked, packed)
        self._objects.put(f"{manifest.name}.jsonl.gz", packed)
        self._objects.put(f"{manifest.name}.json", msgspec.json.encode(manifest))
        self._kept = None
        return manifest

    def manifests(self) -> Sequence[SegmentManifest]:
        """All manifests, by chain and number; read once. Raises SatelliteError when one cannot be read."""
        if self._kept is None:
            names = self._objects.names(SEGMENT_PREFIX)
            self._files = {name for name in names if name.endswith(".jsonl.gz")}
            self._kept = [self._read(name) for name in names if name.endswith(".json")]
        return self._kept

    def expired(self, manifest: SegmentManifest) -> bool:
        """Whether only its manifest is left."""
        self.manifests()
        return f"{manifest.name}.jsonl.gz" not in self._files

    def read(self, manifest: SegmentManifest) -> Iterator[Linked]:
        """The segment's entries with their hashes. Raises SatelliteError when its bytes are not the manifest's."""
        packed = self._objects.get(f"{manifest.name}.jsonl.gz")
        if hashlib.sha256(packed).hexdigest() != manifest.digest:
            raise SatelliteError(f"the segment {manifest.name} was altered", "restore it from a copy")
        for line in gzip.decompress(packed).splitlines():
            parsed = _line.decode(line)
            yield parsed.entry, bytes.fromhex(parsed.hash)

    def holds(self, source: str, position: str, sealed: int) -> bool:
        """Whether a sealed segment holds the change: a redelivery from long ago must not be logged again.

        `sealed` counts the log's sealed entries: when it moves, somebody has sealed more, and the manifests are read
        anew.
        """
        if sealed != self._sealed:
            self._kept, self._sealed = None, sealed
        for manifest in self.manifests():
            if manifest.low <= position <= manifest.high and not self.expired(manifest):
                if manifest.name not in self._positions:
                    known = frozenset((entry.source, entry.position) for entry, _ in self.read(manifest))
                    self._positions = {manifest.name: known}  # one at a time: memory stays bounded
                if (source, position) in self._positions[manifest.name]:
                    return True
        return False

    def expire(self, before: str) -> list[SegmentManifest]:
        """Delete the segments whose newest entry was committed before this time; their manifests stay."""
        gone = [one for one in self.manifests() if one.newest < before and not self.expired(one)]
        for manifest in gone:
            self._objects.delete(f"{manifest.name}.jsonl.gz")
        self._kept = None
        return gone

    def _read(self, name: str) -> SegmentManifest:
        try:
            return msgspec.json.decode(self._objects.get(name), type=SegmentManifest)
        except msgspec.DecodeError as error:
            raise SatelliteError(f"the manifest {name} cannot be read: {error}", "it was altered") from error


def _manifest(key: SigningKey, previous: bytes, linked: Sequence[Linked], packed: bytes) -> SegmentManifest:
    entries = [entry for entry, _ in linked]
    bare = SegmentManifest(
        entries[0].chain, entries[0].number, entries[-1].number, previous.hex(), linked[-1][1].hex(),
        min(entry.commit_time for entry in entries), max(entry.commit_time for entry in entries),
        min(entry.position for entry in entries), max(entry.position for entry in entries),
        sorted({entry.table for entry in entries}), hashlib.sha256(packed).hexdigest(), key.id,
    )  # fmt: skip
    return msgspec.structs.replace(bare, signature=key.sign(bare.signed))


def remaining_entries(segments: SegmentStore, wants: Iterable[SegmentManifest]) -> Iterator[AuditEntry]:
    """The entries of these segments that are still there."""
    for manifest in wants:
        if not segments.expired(manifest):
            yield from (entry for entry, _ in segments.read(manifest))
