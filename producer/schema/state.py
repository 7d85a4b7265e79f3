"""Keeps on disk which shapes the tables had at the last look, and which refills are not done yet."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

import msgspec

from cdckit.errors import SourceError
from cdckit.runtime.settings import Settings
from producer.schema.tracker import Shapes

logger = logging.getLogger(__name__)


def shapes_file(settings: Settings) -> Path:
    """The file of one source on one stream, below the data folder."""
    name = hashlib.sha256(f"{settings.source}\n{settings.stream}".encode()).hexdigest()[:12]
    return settings.folder / "schema" / f"shapes-{name}.json"


def read_shapes(path: Path) -> Shapes:
    """What was stored; nothing when there is no such file, or one that another version wrote."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Shapes)
    except FileNotFoundError:
        return Shapes()
    except (OSError, msgspec.DecodeError) as error:
        logger.warning("%s cannot be read (%s): DDL made while the producer was down is not noticed", path, error)
        return Shapes()


def write_shapes(path: Path, shapes: Shapes) -> None:
    """Store durably: the file is the old one or the new one, never half of one. Raises SourceError."""
    fresh = path.with_suffix(".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(fresh, "wb", opener=_private) as file:
            file.write(msgspec.json.encode(shapes))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as error:
        raise SourceError(f"cannot store the tables' shapes in {path}: {error}", "fix --data (CDC_DATA)") from error


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
