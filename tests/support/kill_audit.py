"""Checks a producer that is killed at random moments: what it acknowledged is on the stream, and nothing is lost."""

import json
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2

from cdckit.envelope import decode
from cdckit.position import Lsn
from consumers.stream.reader import StreamReader
from consumers.stream.start import EARLIEST
from tests.support.figures import say
from tests.support.postgres import Database
from tests.support.producer_runs import slot_is_active
from tests.support.stream_audit import audit_stream
from tests.support.waiting import wait_until


@contextmanager
def overlapping_writes(postgres: Database, seed: int) -> Iterator[list[int]]:
    """Write to the table ``hot`` while the block runs; the list has the committed keys."""
    committed: list[int] = []
    ended = threading.Event()
    writer = threading.Thread(target=_write_overlapping, args=(postgres, committed, ended, seed))
    writer.start()
    try:
        yield committed
    finally:
        ended.set()
        writer.join()


def _write_overlapping(postgres: Database, committed: list[int], ended: threading.Event, seed: int) -> None:
    """Write on two connections whose transactions overlap: one begins first and commits last."""
    chance, number = random.Random(seed), 0
    one, other = psycopg2.connect(postgres.dsn), psycopg2.connect(postgres.dsn)
    while not ended.is_set():
        with one.cursor() as first, other.cursor() as second:
            first.execute("INSERT INTO hot VALUES (%s, 0, 'began first')", (number,))
            second.execute("INSERT INTO hot VALUES (%s, 0, 'commits first')", (number + 1,))
            other.commit()
            committed.append(number + 1)
            time.sleep(chance.uniform(0, 0.02))
            first.execute("INSERT INTO hot SELECT i, 0, 'run' FROM generate_series(%s, %s) i", (number + 2, number + 9))
        one.commit()
        committed += [number, *range(number + 2, number + 10)]
        number += 10
    one.close()
    other.close()


class StreamKeys:
    """The keys of the rows on the stream; each `read` continues after the previous one."""

    def __init__(self, stream: str) -> None:
        self._reader = StreamReader(stream, EARLIEST, stop_when_caught_up=True)
        self._keys: set[Any] = set()

    def read(self) -> set[Any]:
        """All keys so far."""
        for page in self._reader.pages():
            self._keys.update(change.key["id"] for change in map(decode, (record.data for record in page.records)))
        return self._keys


def assert_covers(postgres: Database, held: set[Any], confirmed_at: Lsn) -> None:
    """Every committed row is on the stream or still in the slot: nothing was acknowledged too early."""
    known = {number for (number,) in postgres.query("SELECT id FROM hot")}  # read before the slot is
    wait_until(lambda: not slot_is_active(postgres), 600, "PostgreSQL releases the slot", 0.05)
    query = f"SELECT data FROM pg_logical_slot_peek_changes('{postgres.slot}', NULL, NULL, 'format-version', '2')"
    waiting = {_row_id(data) for (data,) in postgres.query(query) if '"action":"I"' in data}
    lost = known - held - waiting
    assert not lost, f"acknowledged up to {confirmed_at}, but not in the stream: {sorted(lost)[:10]}"


def _row_id(data: str) -> Any:
    return next(column["value"] for column in json.loads(data)["columns"] if column["name"] == "id")


def nothing_is_missing(stream: str, committed: list[int], kills: int) -> None:
    """Each committed row is on the stream, and no key's changes are swapped."""
    found = audit_stream(stream)
    seen = {change.key["id"] for changes in found.by_key.values() for change in changes}
    missing = set(committed) - seen
    say(f"{kills} kills, {len(committed)} changes committed, {len(missing)} missing, {found.repeated} repeated")
    assert not missing
    assert found.inversions == 0
