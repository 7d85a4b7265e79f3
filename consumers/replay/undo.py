"""Backs up what a rewind or a swap changes, and undoes it: the leases, and the two folders of a swap."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from cdckit.errors import SatelliteError, UsageError
from consumers.kcl.leases import LeaseTable
from consumers.storage.files import write_atomically


class Backup(msgspec.Struct, frozen=True):
    """The leases before the change; `live` and `shadow` are the folders that a swap exchanged, otherwise empty."""

    consumer: str
    application: str
    items: Sequence[dict[str, Any]]
    live: str = ""
    shadow: str = ""


def save_backup(data: Path, backup: Backup) -> Path:
    """Writes the backup below the data folder and returns its file."""
    path = _folder(data) / f"{backup.consumer}-{datetime.now(UTC):%Y%m%dT%H%M%S.%f}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, msgspec.json.encode(backup))
    return path


def newest_backup(data: Path, consumer: str) -> tuple[Path, Backup]:
    """The newest backup that was not undone. Raises UsageError when there is none."""
    found = sorted(_folder(data).glob(f"{consumer}-[0-9]*.json"))
    if not found:
        raise UsageError(
            f"{_folder(data)} has nothing of {consumer} to undo", "run undo on the host that made the change"
        )
    return found[-1], msgspec.json.decode(found[-1].read_bytes(), type=Backup)


def undo(path: Path, backup: Backup, table: LeaseTable) -> None:
    """Restores the folders and the leases. The consumer must be stopped; after an interruption, call it again."""
    if backup.live:
        swap_folders(Path(backup.live), Path(backup.shadow))
    table.restore(backup.items)
    path.rename(path.with_suffix(".undone"))


def swap_folders(first: Path, second: Path) -> None:
    """Exchanges two folders; a second call finishes an interrupted exchange. Raises SatelliteError."""
    aside = second.with_name(f"{second.name}.aside")
    try:
        if not aside.exists():
            first.rename(aside)
        if not first.exists():
            second.rename(first)
        aside.rename(second)
    except OSError as error:
        raise SatelliteError(
            f"{first} and {second} cannot be exchanged: {error}", "both must be on one file system, and writable"
        ) from error


def _folder(data: Path) -> Path:
    return data / "replays" / "undo"
