"""A cluster, databases with a backlog, and copies of their slots, so that each producer drains the same backlog."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2

from cdcctl.sandbox import postgres as stack

_SETTINGS = "max_wal_size = '8GB'\nmax_slot_wal_keep_size = '-1'\nmax_replication_slots = 20\nautovacuum = off\n"
_TABLE = """
CREATE TABLE orders (id bigint PRIMARY KEY, customer integer NOT NULL, status text, amount numeric(12,2), note text,
                     at timestamptz DEFAULT now())
"""
_ROW = "i, i % 1000, 'pending', i * 1.5, repeat('x', 160) || i, now()"
_SMALL = f"""
CREATE PROCEDURE fill(n integer) LANGUAGE plpgsql AS $$
BEGIN FOR i IN 1..n LOOP INSERT INTO orders SELECT {_ROW}; COMMIT; END LOOP; END $$
"""
HUGE = f"INSERT INTO orders SELECT {_ROW} FROM generate_series(1, %s) i"


@contextlib.contextmanager
def running_cluster() -> Iterator[stack.Cluster]:
    with tempfile.TemporaryDirectory(prefix="cdc-bench-") as folder:
        Path(folder).chmod(0o755)
        made = stack.create(Path(folder) / "cluster")
        with (made.folder / "data" / "postgresql.conf").open("a") as conf:
            conf.write(_SETTINGS)
        made.start()
        try:
            yield made
        finally:
            made.stop("immediate")


def database(cluster: stack.Cluster, name: str) -> str:
    """A fresh database with the table, and two slots from its beginning: `wal2json` and `pgoutput`."""
    with connected(cluster.dsn) as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
    dsn = cluster.dsn.replace(f"/{stack.DATABASE}", f"/{name}")
    with connected(dsn) as cursor:
        cursor.execute(_TABLE)
        cursor.execute(_SMALL)
        cursor.execute("CREATE PUBLICATION pub FOR TABLE orders")
        for plugin in ("wal2json", "pgoutput"):
            cursor.execute("SELECT pg_create_logical_replication_slot(%s, %s)", (f"{name}_{plugin}", plugin))
    return dsn


@contextlib.contextmanager
def connected(dsn: str) -> Iterator[Any]:
    connection = psycopg2.connect(dsn)
    connection.autocommit = True
    try:
        yield connection.cursor()
    finally:
        connection.close()


@contextlib.contextmanager
def copied_slot(cursor: Any, pattern: str) -> Iterator[str]:
    """A copy of the slot, so that the next producer finds the same backlog."""
    name = f"{pattern}_run"
    cursor.execute("SELECT pg_copy_logical_replication_slot(%s, %s)", (pattern, name))
    try:
        yield name
    finally:
        for _ in range(100):
            cursor.execute("SELECT active FROM pg_replication_slots WHERE slot_name = %s", (name,))
            if not cursor.fetchone()[0]:
                break
            time.sleep(0.1)
        cursor.execute("SELECT pg_drop_replication_slot(%s)", (name,))
