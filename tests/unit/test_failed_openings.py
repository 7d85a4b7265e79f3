"""A store that cannot be opened leaves no file open: a consumer that tries again would run out of them."""

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from cdckit.errors import SatelliteError
from cdckit.sink import SinkContext
from consumers.worker.registry import find_factory


def damaged(path: Path) -> None:
    path.write_bytes(b"not a database" * 400)


def newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")


def without_notes(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE meta")


@pytest.mark.parametrize(
    ("consumer", "spoil"),
    [
        ("search", damaged), ("search", newer), ("search", without_notes), ("audit", damaged), ("audit", newer),
        ("replica", damaged),
    ],
)  # fmt: skip
def test_a_store_that_cannot_be_opened_leaves_no_file_open(
    consumer: str, spoil: Callable[[Path], None], tmp_path: Path
) -> None:
    context = SinkContext(consumer, "shard-0", tmp_path, {})
    find_factory(consumer)(context).close()
    [path] = tmp_path.glob("*.sqlite")
    spoil(path)
    with pytest.raises(SatelliteError) as failed:
        find_factory(consumer)(context)
    assert open_below(tmp_path) == [], failed  # the error is alive, and with it all that its frames hold


def open_below(folder: Path) -> list[str]:
    found = []
    for number in os.listdir("/proc/self/fd"):
        link = Path("/proc/self/fd") / number
        if link.is_symlink() and os.readlink(link).startswith(str(folder)):
            found.append(os.readlink(link))
    return found
