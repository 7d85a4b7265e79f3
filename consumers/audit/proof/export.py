"""Exports the log to one file that can be verified with a public key alone.

The file is JSON lines: ``{"log": …}`` first; then ``{"rotation": …}`` and ``{"anchor": …}`` lines; then, per chain,
``{"chain": …}`` followed by ``[entry, hash]`` lines and ``{"expired": …}`` manifests.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from cdckit.errors import SatelliteError
from consumers.audit.log import AuditLog
from consumers.audit.proof import keys
from consumers.audit.proof.anchors import Anchor, read_anchors
from consumers.audit.proof.chain import AuditEntry, ChainBreak
from consumers.audit.proof.segments import SegmentManifest
from consumers.audit.proof.verification import ChainItem, ChainVerification, verify_chain

FORMAT = 1


class _Head(msgspec.Struct):
    log: str
    format: int


class _ExportLine(msgspec.Struct, omit_defaults=True):
    rotation: keys.Rotation | None = None
    anchor: Anchor | None = None
    chain: str | None = None
    expired: SegmentManifest | None = None


_entry = msgspec.json.Decoder(tuple[AuditEntry, str])
_line = msgspec.json.Decoder(_ExportLine, strict=True)


def export_log(log: AuditLog, path: Path) -> int:
    """Write the whole log to a file, completely or not at all. Returns the number of entries."""
    partial, count = path.with_name(f".{path.name}.part"), 0
    with partial.open("wb") as file:
        for item in _items(log):
            file.write(msgspec.json.encode(item) + b"\n")
            count += isinstance(item, tuple)
    partial.replace(path)
    return count


def verify_file(path: Path, root: Ed25519PublicKey) -> list[ChainVerification]:
    """Verify an exported file, trusting one key. Raises SatelliteError when it is not an exported log."""
    try:
        with path.open("rb") as file:
            head = msgspec.json.decode(file.readline(), type=_Head)
            preface, starts = _preface(file)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SatelliteError(
            f"{path} is not an exported audit log: {error}", "cdcctl audit export writes one"
        ) from error
    if head.format != FORMAT:
        raise SatelliteError(f"{path} has format {head.format}; this version reads {FORMAT}", "upgrade cdckit")
    trusted = keys.trusted_keys(root, [line.rotation for line in preface if line.rotation is not None])
    anchors: dict[str, list[Anchor]] = {}
    for anchor in (line.anchor for line in preface if line.anchor is not None):
        anchors.setdefault(anchor.chain, []).append(anchor)
    chains = sorted({*starts, *anchors})
    return [_verify(path, chain, starts.get(chain), anchors.get(chain, []), trusted, head.log) for chain in chains]


def _items(log: AuditLog) -> Iterator[Any]:
    yield _Head(log.store.log_id, FORMAT)
    yield from (_ExportLine(rotation=rotation) for rotation in keys.read_rotations(log.key_folder))
    yield from (_ExportLine(anchor=anchor) for anchor in read_anchors(log.anchors))
    for chain in log.store.chains():
        yield _ExportLine(chain=chain)
        for item in log.chain_items(chain):
            yield _ExportLine(expired=item) if isinstance(item, SegmentManifest) else (item[0], item[1].hex())


def _preface(file: Any) -> tuple[list[_ExportLine], dict[str, int]]:
    """The lines that are not entries, and the offset at which each chain's entries start."""
    preface: list[_ExportLine] = []
    starts: dict[str, int] = {}
    while text := file.readline():
        if text.startswith(b"["):
            continue
        line = _line.decode(text)
        preface.append(line)
        if line.chain is not None:
            starts[line.chain] = file.tell()
    return preface, starts


def _verify(  # noqa: PLR0913, PLR0917
    path: Path, chain: str, start: int | None, anchors: list[Anchor], trusted: Any, log: str
) -> ChainVerification:
    try:
        return verify_chain(chain, _chain_items(path, start), anchors, trusted, log)
    except (msgspec.DecodeError, ValueError) as error:
        return ChainVerification(chain, 0, 0, 0, 0, ChainBreak(chain, 1, f"cannot be read: {error}"))


def _chain_items(path: Path, start: int | None) -> Iterator[ChainItem]:
    if start is None:
        return
    with path.open("rb") as file:
        file.seek(start)
        for text in file:
            if text.startswith(b"["):
                entry, digest = _entry.decode(text)
                yield entry, bytes.fromhex(digest)
                continue
            line = _line.decode(text)
            if line.chain is not None:
                return
            if line.expired is not None:
                yield line.expired
