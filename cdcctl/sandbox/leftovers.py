"""Finds what `cdcctl local reset` deletes in a data folder, and the parts that must be stopped before it."""

from __future__ import annotations

import fcntl
from contextlib import closing
from pathlib import Path

from cdcctl.sandbox.state import Stack
from producer.postgres.connection import Source
from producer.postgres.slots import list_slots

_FOLDERS = ("local", "run", "status", "dead-letters", "fills", "schema", "replays")
_SATELLITES = ("search", "parquet", "audit", "replica")


def data_folders(data: Path) -> list[Path]:
    """The folders below `data` that the sandbox, its producer and its consumers wrote, and no others.

    ``mask.key`` is not included: hashes stored elsewhere may depend on it.
    """
    satellites = [path.name for path in (data / "status").glob("*")]  # a consumer's reports have its satellite's name
    folders = [data / name for name in dict.fromkeys([*_FOLDERS, *_SATELLITES, *satellites])]
    return [path for path in folders if path.is_dir() and path.resolve().parent == data.resolve()]


def running_consumers(data: Path) -> list[str]:
    """The consumers whose daemons hold their locks."""
    return sorted({lock.stem.rpartition("-")[0] for lock in (data / "run").glob("*.lock") if _is_held(lock)})


def running_producers(stack: Stack) -> list[str]:
    """The slots of the sandbox's database that a producer reads."""
    if not stack.cluster.running:
        return []
    with closing(Source(stack.cluster.dsn)) as source:
        return [f"the producer of slot {slot.name!r}" for slot in list_slots(source) if slot.active_pid is not None]


def _is_held(lock: Path) -> bool:
    with lock.open("r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False
