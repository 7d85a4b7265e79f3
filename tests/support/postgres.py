"""Fixture plugin: a private PostgreSQL cluster with wal2json, and databases and slots in it."""

import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from cdcctl.sandbox import postgres as stack
from cdckit.errors import SourceError

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Database:
    """One fresh database of the test run's cluster."""

    dsn: str
    slot: str
    cluster: stack.Cluster

    def run(self, *statements: str) -> None:
        """Run statements, all in one transaction."""
        with psycopg2.connect(self.dsn) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
        connection.close()

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Run one query and return its rows."""
        with psycopg2.connect(self.dsn) as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            rows = cursor.fetchall()
        connection.close()
        return rows


def unavailable(error: Exception) -> None:
    """A server that cannot be started: a skip on a laptop, a failure in CI."""
    if os.environ.get("CI"):
        pytest.fail(f"CI must have this server: {error}")
    pytest.skip(str(error))


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that PostgreSQL's user may enter: pytest closes its own to other users at every session's start."""
    folder = Path(tempfile.mkdtemp(prefix="cdc-test-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def running_cluster() -> Iterator[stack.Cluster]:
    """A cluster of one's own."""
    with open_folder() as folder:
        try:
            made = stack.create(folder / "cluster")
        except SourceError as error:
            unavailable(error)
            raise
        made.start()
        try:
            yield made
        finally:
            made.stop("immediate")


@pytest.fixture(scope="session")
def cluster() -> Iterator[stack.Cluster]:
    """One running cluster for the whole test session."""
    with running_cluster() as made:
        yield made


@pytest.fixture
def postgres(cluster: stack.Cluster) -> Iterator[Database]:
    """A fresh database; its slot (same name) is dropped afterwards if a test made it."""
    name = f"t{os.getpid()}_{next(_numbers)}"
    admin = psycopg2.connect(cluster.dsn)
    admin.autocommit = True
    with admin.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
    yield Database(cluster.dsn.replace(f"/{stack.DATABASE}", f"/{name}"), name, cluster)
    with admin.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE database = %s AND active", (name,)
        )
        cursor.execute("SELECT slot_name FROM pg_replication_slots WHERE database = %s", (name,))
        for (slot,) in cursor.fetchall():
            _drop_slot(cursor, slot)
        cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")
    admin.close()


def _drop_slot(cursor: Any, slot: str) -> None:
    for _ in range(50):
        try:
            cursor.execute("SELECT pg_drop_replication_slot(%s)", (slot,))
        except psycopg2.errors.ObjectInUse:
            cursor.execute("SELECT pg_sleep(0.1)")
        else:
            return


@pytest.fixture
def own_cluster() -> Iterator[stack.Cluster]:
    """A running cluster that one test may stop, kill or break."""
    with running_cluster() as made:
        yield made
