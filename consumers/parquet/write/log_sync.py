"""Makes commits of a local Delta table survive a power failure: fsync of log entries and of the files they name."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

import msgspec

from consumers.storage.files import fsync_path


class _Add(msgspec.Struct, frozen=True):
    path: str


class _Action(msgspec.Struct, frozen=True):
    add: _Add | None = None


_decoder = msgspec.json.Decoder(_Action)


def sync_entries(folder: str, first: int, last: int, *, data_files: bool = False) -> None:
    """Force the log entries `first` to `last` to disk; with `data_files` also the data files that they add.

    Entries of other writers below ours are synced too: if one were lost in a power failure, the table would end before
    our entry. Writers sync their data files before they commit, except those that a compaction has written.
    """
    log = Path(folder) / "_delta_log"
    entries = [path for version in range(first, last + 1) if (path := log / f"{version:020d}.json").exists()]
    for entry in entries:
        if data_files:
            sync_files(Path(folder), entry)
        fsync_path(entry)
    for path in [*(log / f"{entry.stem}.checkpoint.parquet" for entry in entries), log / "_last_checkpoint"]:
        if path.exists():
            fsync_path(path)
    fsync_path(log)


def sync_files(root: Path, entry: Path) -> None:
    """Force the data files that a log entry adds, and their folders, to disk."""
    actions = [_decoder.decode(line) for line in entry.read_bytes().splitlines()]
    files = [root / unquote(action.add.path) for action in actions if action.add]
    for path in dict.fromkeys([*files, *(file.parent for file in files), root]):
        if path.exists():
            fsync_path(path)
