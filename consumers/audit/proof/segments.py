"""Sealed segments: old entries of a chain, compressed, each with a signed manifest that stays when the segment expires.

A segment is a gzip file with one JSON array per line, ``[entry, hash]``. Its manifest contains its place in the chain
and the hashes before and at its end, so that a chain can be verified across an expired segment.
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
HashedEntry = tuple[AuditEntry, bytes]


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
        """The name of the segment's objects: ``segments/CHAIN/FIRST-LAST``."""
        return f"{SEGMENT_PREFIX}{self.chain}/{self.first:020}-{self.last:020}"

    @property
    def signed(self) -> bytes:
        """The bytes that are signed."""
        return b"cdc.audit.segment:" + msgspec.json.encode(msgspec.structs.replace(self, signature=""))


class _SegmentLine(msgspec.Struct, frozen=True, array_like=True):
    entry: AuditEntry
    hash: str


_line = msgspec.json.Decoder(_SegmentLine)


class SegmentStore:
    """The sealed segments of one log."""

    def __init__(self, objects: Objects) -> None:
        """Read and write the segments in `objects`."""
        self._objects = objects
        self._manifests: list[SegmentManifest] | None = None
        self._files: set[str] = set()
        self._sealed = 0
        self._positions: dict[str, frozenset[tuple[str, str]]] = {}

    def write(self, key: SigningKey, previous: bytes, entries: Sequence[HashedEntry]) -> SegmentManifest:
        """Write a segment, then its manifest; durable on return. The same entries always give the same bytes."""
        lines = b"".join(msgspec.json.encode(_SegmentLine(entry, digest.hex())) + b"\n" for entry, digest in entries)
        packed = gzip.compress(lines, 6, mtime=0)
        manifest = _manifest(key, previous, entries, packed)
        self._objects.put(f"{manifest.name}.jsonl.gz", packed)
        self._objects.put(f"{manifest.name}.json", msgspec.json.encode(manifest))
        self._manifests = None
        return manifest

    def manifests(self) -> Sequence[SegmentManifest]:
        """All manifests, by chain and number; cached. Raises SatelliteError when one cannot be decoded."""
        if self._manifests is None:
            names = self._objects.names(SEGMENT_PREFIX)
            self._files = {name for name in names if name.endswith(".jsonl.gz")}
            self._manifests = [self._read(name) for name in names if name.endswith(".json")]
        return self._manifests

    def expired(self, manifest: SegmentManifest) -> bool:
        """Whether the segment was deleted and only its manifest is left."""
        self.manifests()
        return f"{manifest.name}.jsonl.gz" not in self._files

    def read(self, manifest: SegmentManifest) -> Iterator[HashedEntry]:
        """A segment's entries with their hashes. Raises SatelliteError when its bytes do not match the manifest."""
        packed = self._objects.get(f"{manifest.name}.jsonl.gz")
        if hashlib.sha256(packed).hexdigest() != manifest.digest:
            raise SatelliteError(f"the segment {manifest.name} was altered", "restore it from a copy")
        for line in gzip.decompress(packed).splitlines():
            parsed = _line.decode(line)
            yield parsed.entry, bytes.fromhex(parsed.hash)

    def contains(self, source: str, position: str, sealed: int) -> bool:
        """Whether a sealed segment contains the change, so that an old redelivery is not logged again.

        `sealed` is the number of sealed entries in the log: when it changes, another process has sealed more, and the
        manifests are read again.
        """
        if sealed != self._sealed:
            self._manifests, self._sealed = None, sealed
        for manifest in self.manifests():
            if manifest.low <= position <= manifest.high and not self.expired(manifest):
                if manifest.name not in self._positions:
                    known = frozenset((entry.source, entry.position) for entry, _ in self.read(manifest))
                    self._positions = {manifest.name: known}  # only one segment's positions, to bound the memory
                if (source, position) in self._positions[manifest.name]:
                    return True
        return False

    def expire(self, before: str) -> list[SegmentManifest]:
        """Delete the segments whose newest entry was committed before `before`. Their manifests stay."""
        expired = [item for item in self.manifests() if item.newest < before and not self.expired(item)]
        for manifest in expired:
            self._objects.delete(f"{manifest.name}.jsonl.gz")
        self._manifests = None
        return expired

    def _read(self, name: str) -> SegmentManifest:
        try:
            return msgspec.json.decode(self._objects.get(name), type=SegmentManifest)
        except msgspec.DecodeError as error:
            raise SatelliteError(
                f"the manifest {name} cannot be read: {error}", "it was altered: restore it from a copy"
            ) from error


def _manifest(key: SigningKey, previous: bytes, hashed: Sequence[HashedEntry], packed: bytes) -> SegmentManifest:
    entries = [entry for entry, _ in hashed]
    bare = SegmentManifest(
        entries[0].chain, entries[0].number, entries[-1].number, previous.hex(), hashed[-1][1].hex(),
        min(entry.commit_time for entry in entries), max(entry.commit_time for entry in entries),
        min(entry.position for entry in entries), max(entry.position for entry in entries),
        sorted({entry.table for entry in entries}), hashlib.sha256(packed).hexdigest(), key.id,
    )  # fmt: skip
    return msgspec.structs.replace(bare, signature=key.sign(bare.signed))


def remaining_entries(segments: SegmentStore, manifests: Iterable[SegmentManifest]) -> Iterator[AuditEntry]:
    """The entries of the segments that have not expired."""
    for manifest in manifests:
        if not segments.expired(manifest):
            yield from (entry for entry, _ in segments.read(manifest))
