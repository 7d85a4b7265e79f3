"""Reads what the consumer ``ledger`` of the chaos tests (`ledger_sink`) has stored."""

import sqlite3
from contextlib import closing
from pathlib import Path

from cdckit.envelope import decode
from consumers.dead_letters import open_store
from consumers.worker.status import read_reports
from tests.support.ledger_sink import FILE


def reading(folder: Path) -> list[str]:
    """The shards of which the consumer has read a record."""
    return [report.shard for report in read_reports(folder, "ledger") if report.read]


def seen(folder: Path) -> set[str]:
    """The positions of the applied changes."""
    return {str(position) for (position,) in _query(folder, "SELECT position FROM seen")}


def covered(folder: Path) -> set[str]:
    """The positions of the applied and of the dead-lettered changes."""
    dead = {decode(letter.data).position.sort_key for letter in open_store("", "ledger", folder).read()}
    return seen(folder) | dead


def rows(folder: Path) -> dict[int, str]:
    """The rows of the ledger: value by id."""
    found = _query(folder, "SELECT id, value FROM row WHERE value IS NOT NULL")
    return {int(str(key)): str(value) for key, value in found}


def _query(folder: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(folder / "ledger" / FILE, timeout=60)) as connection:
        return connection.execute(query).fetchall()
