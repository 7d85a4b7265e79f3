"""What the parts keep beside the sandbox in one data folder, and which of them still run."""

from __future__ import annotations

import fcntl
from contextlib import closing
from pathlib import Path

from cdcctl.sandbox.state import Stack
from producer.postgres.connection import Source
from producer.postgres.slots import list_slots

_FOLDERS = ("local", "run", "status", "dead-letters", "fills", "replays")
_SATELLITES = ("search", "parquet", "audit", "replica")


def kept(data: Path) -> list[Path]:
    """The folders below `data` that the sandbox, its producer and its consumers wrote; nothing else is named.

    ``mask.key`` is not among them: hashes elsewhere may have been made with it.
    """
    ran = [path.name for path in (data / "status").glob("*")]  # a consumer's reports have its satellite's name
    found = [data / name for name in dict.fromkeys([*_FOLDERS, *_SATELLITES, *ran])]
    return [path for path in found if path.is_dir() and path.resolve().parent == data.resolve()]


def running(data: Path) -> list[str]:
    """The consumers whose daemons hold their locks."""
    return sorted({lock.stem.rpartition("-")[0] for lock in (data / "run").glob("*.lock") if _is_held(lock)})


def readers(stack: Stack) -> list[str]:
    """The producers: who reads a slot of the sandbox's database."""
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
