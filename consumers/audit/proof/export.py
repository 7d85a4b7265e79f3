"""The log as one file that proves itself: with a public key and nothing else, anyone can verify it.

JSON lines: ``{"log": …}`` first; then ``{"rotation": …}``, ``{"anchor": …}``; then, chain by chain, ``{"chain": …}``
followed by ``[entry, hash]`` lines and ``{"expired": …}`` manifests.
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


class _Line(msgspec.Struct, omit_defaults=True):
    rotation: keys.Rotation | None = None
    anchor: Anchor | None = None
    chain: str | None = None
    expired: SegmentManifest | None = None


_entry = msgspec.json.Decoder(tuple[AuditEntry, str])
_line = msgspec.json.Decoder(_Line, strict=True)


def export_log(log: AuditLog, path: Path) -> int:
    """Write the whole log; how many entries that were. The file is there whole or not at all."""
    fresh, count = path.with_name(f".{path.name}.part"), 0
    with fresh.open("wb") as file:
        for item in _items(log):
            file.write(msgspec.json.encode(item) + b"\n")
            count += isinstance(item, tuple)
    fresh.replace(path)
    return count


def verify_file(path: Path, root: Ed25519PublicKey) -> list[ChainVerification]:
    """Verify an exported file with the one key that is trusted. Raises SatelliteError when it is none."""
    try:
        with path.open("rb") as file:
            head = msgspec.json.decode(file.readline(), type=_Head)
            preface, starts = _preface(file)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SatelliteError(f"{path} is no exported audit log: {error}", "cdcctl audit export makes one") from error
    if head.format != FORMAT:
        raise SatelliteError(f"{path} has the format {head.format}, this program reads {FORMAT}", "upgrade cdckit")
    trusted = keys.trusted_keys(root, [line.rotation for line in preface if line.rotation is not None])
    anchors: dict[str, list[Anchor]] = {}
    for anchor in (line.anchor for line in preface if line.anchor is not None):
        anchors.setdefault(anchor.chain, []).append(anchor)
    chains = sorted({*starts, *anchors})
    return [_proved(path, chain, starts.get(chain), anchors.get(chain, []), trusted, head.log) for chain in chains]


def _items(log: AuditLog) -> Iterator[Any]:
    yield _Head(log.store.log, FORMAT)
    yield from (_Line(rotation=one) for one in keys.read_rotations(log.key_folder))
    yield from (_Line(anchor=one) for one in read_anchors(log.anchors))
    for chain in log.store.chains():
        yield _Line(chain=chain)
        for piece in log.pieces(chain):
            yield _Line(expired=piece) if isinstance(piece, SegmentManifest) else (piece[0], piece[1].hex())


def _preface(file: Any) -> tuple[list[_Line], dict[str, int]]:
    """What is no entry, and where each chain's entries start."""
    preface: list[_Line] = []
    starts: dict[str, int] = {}
    while text := file.readline():
        if text.startswith(b"["):
            continue
        line = _line.decode(text)
        preface.append(line)
        if line.chain is not None:
            starts[line.chain] = file.tell()
    return preface, starts


def _proved(  # noqa: PLR0913, PLR0917
    path: Path, chain: str, start: int | None, anchors: list[Anchor], trusted: Any, log: str
) -> ChainVerification:
    try:
        return verify_chain(chain, _pieces(path, start), anchors, trusted, log)
    except (msgspec.DecodeError, ValueError) as error:
        return ChainVerification(chain, 0, 0, 0, 0, ChainBreak(chain, 1, f"cannot be read: {error}"))


def _pieces(path: Path, start: int | None) -> Iterator[ChainItem]:
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
