"""What a rewind or a swap has changed, kept so that it can be undone: the leases, and which folders changed places."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from cdckit.errors import SatelliteError, UsageError
from consumers.kcl.leases import LeaseTable
from consumers.storage.files import write_whole


class Backup(msgspec.Struct, frozen=True):
    """The leases before; `live` and `shadow` are the folders that a swap exchanged, else empty."""

    consumer: str
    application: str
    items: Sequence[dict[str, Any]]
    live: str = ""
    shadow: str = ""


def keep(data: Path, backup: Backup) -> Path:
    """Write it below the data folder; its file."""
    path = _folder(data) / f"{backup.consumer}-{datetime.now(UTC):%Y%m%dT%H%M%S.%f}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, msgspec.json.encode(backup))
    return path


def newest(data: Path, consumer: str) -> tuple[Path, Backup]:
    """The last one that was not undone. Raises UsageError when there is none."""
    found = sorted(_folder(data).glob(f"{consumer}-[0-9]*.json"))
    if not found:
        raise UsageError(f"nothing of {consumer} is to be undone in {_folder(data)}", "undo on the host that did it")
    return found[-1], msgspec.json.decode(found[-1].read_bytes(), type=Backup)


def undo(path: Path, backup: Backup, table: LeaseTable) -> None:
    """Put the folders and the leases back. The consumer must be stopped; cut off, it may be called again."""
    if backup.live:
        exchange(Path(backup.live), Path(backup.shadow))
    table.restore(backup.items)
    path.rename(path.with_suffix(".undone"))


def exchange(one: Path, other: Path) -> None:
    """The two folders change places; called again, it finishes what was cut off. Raises SatelliteError."""
    aside = other.with_name(f"{other.name}.aside")
    try:
        if not aside.exists():
            one.rename(aside)
        if not one.exists():
            other.rename(one)
        aside.rename(other)
    except OSError as error:
        raise SatelliteError(
            f"{one} and {other} cannot change places: {error}", "both must be on one file system, and writable"
        ) from error


def _folder(data: Path) -> Path:
    return data / "replays" / "undo"
