"""What survives the power: fsync of the files that one commit of a local Delta table made."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import unquote

import msgspec


class _Add(msgspec.Struct, frozen=True):
    path: str


class _Action(msgspec.Struct, frozen=True):
    add: _Add | None = None


_decoder = msgspec.json.Decoder(_Action)


def sync_commit(folder: str, version: int) -> None:
    """Force the commit's data files, its log entry and their folders to the disk."""
    root = Path(folder)
    entry = root / "_delta_log" / f"{version:020d}.json"
    actions = [_decoder.decode(line) for line in entry.read_bytes().splitlines()]
    files = [root / unquote(action.add.path) for action in actions if action.add]
    for path in dict.fromkeys([*files, *(file.parent for file in files), entry, entry.parent, root]):
        _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
