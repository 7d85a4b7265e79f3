"""Where anchors and sealed segments are kept: a folder, or S3 (with Object Lock: nobody can take one back)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from cdckit.errors import SatelliteError, UsageError
from consumers.storage.files import write_atomically
from consumers.storage.objects import S3Location, S3Objects, raising


class Objects(Protocol):
    """Named byte strings. Every method raises SatelliteError when the place does not answer."""

    def put(self, name: str, data: bytes) -> None:
        """Keep `data` under `name`; durable when this returns."""

    def get(self, name: str) -> bytes:
        """What is kept under `name`."""

    def names(self, prefix: str = "") -> Sequence[str]:
        """All names that begin with `prefix`, sorted."""

    def delete(self, name: str) -> None:
        """Forget it; one that is gone already is no error."""


def open_objects(url: str, default: Path, lock_days: int = 0) -> Objects:
    """The place that `url` names (a folder or ``s3://BUCKET/PREFIX``), else the folder `default`. Raises UsageError."""
    if not url:
        return FolderObjects(default)
    if location := S3Location.parse(url):
        return S3Objects(location, raising(SatelliteError), partial(_object_lock, lock_days))
    parts = urlsplit(url)
    if parts.scheme in ("", "file") and not parts.netloc and parts.path:
        return FolderObjects(Path(parts.path).expanduser())
    raise UsageError(f"{url!r} is no place for an audit log's files", "use a folder or s3://BUCKET/PREFIX")


class FolderObjects:
    """Files below a folder, each written whole (fsync, rename)."""

    def __init__(self, folder: Path) -> None:
        """Nothing is made before the first `put`."""
        self._folder = folder

    def put(self, name: str, data: bytes) -> None:
        """Durable when this returns."""
        path = self._folder / name
        with self._translated():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_atomically(path, data)

    def get(self, name: str) -> bytes:
        """The file's bytes."""
        with self._translated():
            return (self._folder / name).read_bytes()

    def names(self, prefix: str = "") -> Sequence[str]:
        """Files, by their paths below the folder."""
        found = (path for path in self._folder.rglob("*") if path.is_file() and not path.name.startswith("."))
        names = sorted(str(path.relative_to(self._folder)) for path in found)
        return [name for name in names if name.startswith(prefix)]

    def delete(self, name: str) -> None:
        """Remove the file."""
        (self._folder / name).unlink(missing_ok=True)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise SatelliteError(f"the audit log's files in {self._folder}: {error}", "see the cause") from error


def _object_lock(days: int) -> Mapping[str, Any]:
    """PutObject's arguments that lock an object (COMPLIANCE) for so many days from now; none for 0 days."""
    if not days:
        return {}
    return {
        "ChecksumAlgorithm": "SHA256",
        "ObjectLockMode": "COMPLIANCE",
        "ObjectLockRetainUntilDate": datetime.now(UTC) + timedelta(days=days),
    }
