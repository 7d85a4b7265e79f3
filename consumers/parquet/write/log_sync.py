"""What survives the power: fsync of a local Delta table's log entries, and of the files that they name."""

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


def sync_entries(folder: str, first: int, last: int, *, files_too: bool = False) -> None:
    """Force the log's entries from `first` to `last` to the disk; `files_too` also the data files that they name.

    Another writer's entries below ours matter: without them ours would not be part of the table after a power cut.
    Its data files it has synced itself before it committed; those of a compaction have not been.
    """
    log = Path(folder) / "_delta_log"
    entries = [path for version in range(first, last + 1) if (path := log / f"{version:020d}.json").exists()]
    for entry in entries:
        if files_too:
            sync_files(Path(folder), entry)
        fsync_path(entry)
    for path in [*(log / f"{entry.stem}.checkpoint.parquet" for entry in entries), log / "_last_checkpoint"]:
        if path.exists():
            fsync_path(path)
    fsync_path(log)


def sync_files(root: Path, entry: Path) -> None:
    """Force the data files that one log entry adds, and their folders, to the disk."""
    actions = [_decoder.decode(line) for line in entry.read_bytes().splitlines()]
    files = [root / unquote(action.add.path) for action in actions if action.add]
    for path in dict.fromkeys([*files, *(file.parent for file in files), root]):
        if path.exists():
            fsync_path(path)
