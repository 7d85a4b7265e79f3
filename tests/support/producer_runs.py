"""Runs a producer in this process, waits for it, and reads what it has published."""

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from cdckit.change import Change
from cdckit.position import Lsn
from cdckit.runtime.settings import Settings
from consumers.stream.claim_check import Fetcher
from consumers.stream.reader import StreamReader
from consumers.stream.start import EARLIEST
from producer.service import Result, run
from tests.support.postgres import Database
from tests.support.scale import scale
from tests.support.waiting import becomes_true, wait_until


@contextmanager
def producing(settings: Settings) -> Iterator[list[Result]]:
    """Run a producer in a thread until the block ends; the list has its result after the block."""
    stopping, results = threading.Event(), list[Result]()
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(run(settings, stopping.is_set))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield results
    finally:
        stopping.set()
        thread.join()
    assert not errors, errors


def settings_for(postgres: Database, stream: str, aggregate: str) -> Settings:
    """Create the table ``hot`` and the slot; the settings of a producer for both."""
    postgres.run("CREATE TABLE hot (id integer PRIMARY KEY, n integer, note text)")
    postgres.run(f"SELECT pg_create_logical_replication_slot('{postgres.slot}', 'wal2json')")
    return Settings(dsn=postgres.dsn, slot=postgres.slot, stream=stream, aggregate=aggregate)


def caught_up(postgres: Database, seconds: float, producer: subprocess.Popen[bytes] | None = None) -> None:
    """Wait until everything committed so far is acknowledged, while `producer` runs."""
    [(end,)] = postgres.query("SELECT pg_current_wal_lsn()")

    def is_acknowledged() -> bool:
        assert producer is None or producer.poll() is None, "the producer ended"
        return confirmed(postgres) >= Lsn.parse(end)

    wait_until(is_acknowledged, seconds, lambda: f"{confirmed(postgres)} is still before {end}", 0.2)


def confirmed(postgres: Database) -> Lsn:
    """The position up to which the slot is acknowledged."""
    query = f"SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = '{postgres.slot}'"
    return Lsn.parse(postgres.query(query)[0][0])


def slot_is_active(postgres: Database) -> bool:
    """Whether a producer reads the slot."""
    return bool(postgres.query(f"SELECT 1 FROM pg_replication_slots WHERE slot_name = '{postgres.slot}' AND active"))


@contextmanager
def producing_until_caught_up(settings: Settings, postgres: Database, *, snapshot: bool = False) -> Iterator[None]:
    """Run a producer in a thread; at the end of the block everything committed is on the stream."""
    stopping, errors = threading.Event(), list[BaseException]()

    def work() -> None:
        try:
            run(settings, stopping.is_set, snapshot=snapshot)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        query = f"SELECT 1 FROM pg_replication_slots WHERE slot_name = '{settings.slot}' AND active"
        becomes_true(lambda: errors or postgres.query(query), 60)
        assert not errors, errors
        yield
        caught_up(postgres, scale(120, 900))
    finally:
        stopping.set()
        thread.join()
    assert not errors, errors


def read_changes(settings: Settings) -> list[Change]:
    """All changes of the stream; large ones are fetched from their storage."""
    fetcher = Fetcher()
    pages = StreamReader(settings.stream, EARLIEST, stop_when_caught_up=True).pages()
    return [fetcher.decode(record.data) for page in pages for record in page.records]
