"""`cdcctl verify` on the full pipeline: no false alarm during changes, and a lost change is reported.

With CDC_CHAOS=full the table has a million rows, and there are 500 changes per second.
"""

import json
import random
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from decimal import Decimal
from typing import Any

import pytest

from cdcctl.demo.workload import Shop
from cdckit.change import Change, Value
from cdckit.runtime.settings import Settings
from cdckit.testing import batch, change
from consumers.worker.factory import sink_context
from consumers.worker.registry import find_factory
from producer.postgres.connection import Source
from tests.acceptance.conftest import Whole, run_cdcctl
from tests.support.scale import scale

pytestmark = [pytest.mark.acceptance, pytest.mark.chaos, pytest.mark.timeout(scale(900, 7200))]
SATELLITES = ("search", "parquet", "audit", "replica")
ROWS, RATE = scale(3_000, 1_000_000), scale(20, 500)
LOST = ROWS // 3
_FACTS = f"""
CREATE TABLE facts (id bigint PRIMARY KEY, n integer NOT NULL, price numeric(12,2), body text);
INSERT INTO facts SELECT i, 0, i / 4.0, 'fact ' || md5(i::text) FROM generate_series(1, {ROWS}) i;
"""
_TYPES = {"id": "bigint", "n": "integer", "price": "numeric(12,2)", "body": "text"}
_BATCH = 2_000


def verified(whole: Whole, satellite: str, status: int) -> dict[str, Any]:
    started = time.monotonic()
    done = run_cdcctl(
        "verify", satellite, "--timeout", "300", "-o", "json",
        environ=whole.environ, folder=whole.folder, timeout=scale(300, 3000),
    )  # fmt: skip
    assert done.returncode == status, f"{satellite}: {done.stdout}{done.stderr}{whole.told()}"
    answer: dict[str, Any] = json.loads(done.stdout)
    assert answer["equal"] is (status == 0)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
    shown = {table["table"]: (table["rows"], table["suspects"], table["unsettled"]) for table in answer["tables"]}
    sys.stderr.write(f"{satellite}: {time.monotonic() - started:.0f} s, peak {peak} MB, {shown}\n")
    return answer


def test_each_satellite_is_verified_during_changes_and_a_lost_change_is_found(whole: Whole) -> None:
    dsn, whole.parts.environ = whole.stack.cluster.dsn, {**whole.environ, "CDC_CHECKPOINT_SECONDS": "1"}
    whole.source.query(_FACTS)
    for name in SATELLITES:
        fill(name, whole)
    whole.source.query("SELECT pg_replication_slot_advance(%s, pg_current_wal_lsn())", (Settings().slot,))
    whole.parts.start("producer", ["producer", "run"])
    for name in SATELLITES:
        whole.parts.start(name, ["consumer", "run", name])
    whole.shop.create()
    with working(lambda ended: Shop.run(whole.shop, 25.0, ended)), working(lambda ended: move_facts(dsn, ended)):
        for name in SATELLITES:
            whole.wait(lambda name=name: sum(report.read for report in whole.reports(name)) > 0, 180)  # type: ignore[misc]
        lose(dsn, "facts", f"UPDATE facts SET price = -1 WHERE id = {LOST}")
        for name in SATELLITES:
            answer = verified(whole, name, 1)
            assert {table["table"] for table in answer["tables"] if table["rows"] > 0} == {
                "public.customers", "public.facts", "public.orders", "public.products",
            }  # fmt: skip
            [difference] = [item for table in answer["tables"] for item in table["differences"]]
            assert (difference["key"], difference["columns"]) == (f"[{LOST}]", ["price"])
            assert difference["source"]["price"] == -1
            assert difference["satellite"]["price"] != -1
    repaired = json.loads(whole.cdcctl("verify", "search", "--repair", "--timeout", "90", "-o", "json").stdout)
    assert (repaired["equal"], repaired["repaired"]) == (True, {"rows": 1, "deletions": 0})
    verified(whole, "parquet", 0)  # the rows published for one satellite repaired all of them
    whole.source.query("INSERT INTO customers SELECT 900, name, city, email FROM customers WHERE id = 3")
    lose(dsn, "customers", "DELETE FROM customers WHERE id = 900")
    repaired = json.loads(whole.cdcctl("verify", "replica", "--repair", "--timeout", "90", "-o", "json").stdout)
    assert (repaired["equal"], repaired["repaired"]) == (True, {"rows": 0, "deletions": 1})


@contextmanager
def working(work: Callable[[Callable[[], bool]], None]) -> Iterator[None]:
    """Run `work` in a thread until the block ends."""
    ended = threading.Event()
    thread = threading.Thread(target=work, args=(ended.is_set,))
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(60)


def fill(name: str, whole: Whole) -> None:
    """Write the table into a satellite through its sink, which is much faster than a snapshot."""
    sink = find_factory(name)(sink_context(Settings(data=str(whole.folder)), name, "shardId-000000000000"))
    with closing(sink), whole.source.transaction():
        whole.source.query("DECLARE filling NO SCROLL CURSOR FOR SELECT id, n, price::text, body FROM facts")
        while rows := whole.source.query(f"FETCH {_BATCH} FROM filling"):
            sink.apply(batch(*[fact(*row) for row in rows]))
        sink.flush()


def fact(key: int, n: int, price: str, body: str) -> Change:
    row: dict[str, Value] = {"n": n, "price": Decimal(price), "body": body}
    return change("I", key, row, index=key, table="public.facts", types=_TYPES)


def move_facts(dsn: str, ended: Callable[[], bool]) -> None:
    """Update ten random rows per statement, except the lost one."""
    chance, started, done = random.Random(5), time.monotonic(), 0
    with closing(Source(dsn)) as source:
        while not ended():
            keys = {chance.randint(1, ROWS) for _ in range(10)} - {LOST}
            source.query("UPDATE facts SET n = n + 1 WHERE id = ANY(%s)", (list(keys),))
            done += len(keys)
            time.sleep(max(0.0, done / RATE - (time.monotonic() - started)))
    sys.stderr.write(f"{done / (time.monotonic() - started):.0f} changes/s\n")


def lose(dsn: str, table: str, *statements: str) -> None:
    """Lose changes: wal2json drops updates and deletes of a table without a replica identity."""
    with closing(Source(dsn)) as source, source.transaction():
        source.query(f"ALTER TABLE {table} REPLICA IDENTITY NOTHING")
        for statement in statements:
            source.query(statement)
        source.query(f"ALTER TABLE {table} REPLICA IDENTITY DEFAULT")


def test_a_missing_satellite_is_reported(whole: Whole) -> None:
    whole.shop.create()
    missing = whole.cdcctl("verify", "search", "--timeout", "1")
    assert missing.returncode == 6
    assert "cdcctl consumer run search" in missing.stderr
    assert whole.cdcctl("verify", "lake").returncode == 2
