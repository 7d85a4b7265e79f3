"""`cdcctl verify` over the whole way: no alarm while changes go on, and a change that never came is named."""

import json
import threading
from typing import Any

import pytest

from cdcctl.showcase.workload import Shop
from cdckit.settings import Settings
from producer.source import Source
from tests.acceptance.conftest import Whole

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(600)]
SATELLITES = ("search", "parquet", "audit", "replica")


def verified(whole: Whole, satellite: str, status: int) -> dict[str, Any]:
    done = whole.cdcctl("verify", satellite, "--timeout", "90", "-o", "json")
    assert done.returncode == status, f"{satellite}: {done.stdout}{done.stderr}"
    answer: dict[str, Any] = json.loads(done.stdout)
    assert answer["equal"] is (status == 0)
    return answer


def test_each_satellite_is_proven_while_changes_go_on_and_a_lost_change_is_found(whole: Whole) -> None:
    whole.parts.start("producer", ["producer", "run"])
    for name in SATELLITES:
        whole.parts.start(name, ["consumer", "run", name])
    whole.shop.create()
    ended = threading.Event()
    working = threading.Thread(target=Shop.run, args=(whole.shop, 50.0, ended.is_set))
    working.start()
    try:
        for name in SATELLITES:
            whole.wait(lambda name=name: sum(one.read for one in whole.reports(name)) > 0)  # type: ignore[misc]
            answer = verified(whole, name, 0)
            assert {table["table"] for table in answer["tables"]} == {
                "public.customers", "public.orders", "public.products",
            }  # fmt: skip
            assert all(table["rows"] > 0 for table in answer["tables"])
    finally:
        ended.set()
        working.join(20)
    lose_an_update(Settings().dsn or whole.stack.cluster.dsn)
    for name in SATELLITES:
        [table] = [one for one in verified(whole, name, 1)["tables"] if not one["equal"]]
        assert table["table"] == "public.customers"
        [difference] = table["differences"]
        assert (difference["key"], difference["columns"]) == ("[3]", ["city"])
        assert difference["source"]["city"] == "Nowhere"
        assert difference["satellite"]["city"] != "Nowhere"
    mended = json.loads(whole.cdcctl("verify", "search", "--repair", "--timeout", "90", "-o", "json").stdout)
    assert (mended["equal"], mended["repaired"]) == (True, {"rows": 1, "deletions": 0})
    verified(whole, "parquet", 0)  # one stream: what was published for one mended them all
    lose_a_delete(whole.stack.cluster.dsn)
    verified(whole, "replica", 1)
    mended = json.loads(whole.cdcctl("verify", "replica", "--repair", "--timeout", "90", "-o", "json").stdout)
    assert (mended["equal"], mended["repaired"]) == (True, {"rows": 0, "deletions": 1})


def lose_an_update(dsn: str) -> None:
    """As happens in life: wal2json drops the updates of a table that has no replica identity."""
    source = Source(dsn)
    source.query("ALTER TABLE customers REPLICA IDENTITY NOTHING")
    source.query("UPDATE customers SET city = 'Nowhere' WHERE id = 3")
    source.query("ALTER TABLE customers REPLICA IDENTITY DEFAULT")
    source.close()


def lose_a_delete(dsn: str) -> None:
    source = Source(dsn)
    source.query("INSERT INTO customers SELECT 900, name, city, email FROM customers WHERE id = 3")
    source.query("ALTER TABLE customers REPLICA IDENTITY NOTHING")
    source.query("DELETE FROM customers WHERE id = 900")
    source.query("ALTER TABLE customers REPLICA IDENTITY DEFAULT")
    source.close()


def test_a_satellite_that_is_not_there_is_told(whole: Whole) -> None:
    whole.shop.create()
    missing = whole.cdcctl("verify", "search", "--timeout", "1")
    assert missing.returncode == 6
    assert "cdcctl consumer run search" in missing.stderr
    assert whole.cdcctl("verify", "lake").returncode == 2
