"""The log's history equals what triggers in PostgreSQL have recorded."""

import json
import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from cdckit.change import Table
from cdckit.sink import SinkContext
from cdckit.testing import deliver
from consumers.audit import query as log
from consumers.audit.sink import open_sink
from tests.support.postgres import Database
from tests.support.wal_stream import WalStream

pytestmark = pytest.mark.integration
TRIGGER = """
CREATE TABLE recorded (number bigserial, op text, old jsonb, new jsonb, actor text, xid bigint DEFAULT txid_current());
CREATE FUNCTION record_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO recorded (op, old, new, actor) VALUES (left(TG_OP, 1),
    CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) END, CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) END,
    current_setting('app.actor', true));
  RETURN NULL; END $$;
CREATE TRIGGER record_change AFTER INSERT OR UPDATE OR DELETE ON orders FOR EACH ROW EXECUTE FUNCTION record_change();
"""


def workload(postgres: Database, chance: random.Random, transactions: int) -> None:
    alive: set[int] = set()
    for number in range(transactions):
        statements = []
        if actor := chance.choice(["alice", "bob", ""]):
            statements = [
                f"SELECT set_config('app.actor', '{actor}', true), "
                f"pg_logical_emit_message(true, 'cdc.annotation', '{{\"actor\": \"{actor}\"}}')"
            ]
        for _ in range(chance.randint(1, 4)):
            key = chance.randint(1, 12)
            if key not in alive:
                statements.append(f"INSERT INTO orders VALUES ({key}, 'new', {chance.randint(1, 999)}.50)")
                alive.add(key)
            elif chance.random() < 0.2:
                statements.append(f"DELETE FROM orders WHERE id = {key}")
                alive.discard(key)
            else:
                statements.append(f"UPDATE orders SET status = 's{number}', total = total + 1 WHERE id = {key}")
        postgres.run(*statements)


def test_every_row_s_history_is_what_the_triggers_recorded(postgres: Database, tmp_path: Path) -> None:
    chance = random.Random(20261124)
    postgres.run("CREATE TABLE orders (id integer PRIMARY KEY, status text, total numeric(10, 2))", TRIGGER)
    stream = WalStream(postgres.dsn, postgres.slot)
    workload(postgres, chance, 120)
    changes = [change for change in stream.changes() if change.table.name == "orders"]
    stream.close()
    shuffled = [*changes, *chance.choices(changes, k=40)]
    chance.shuffle(shuffled)
    for start in range(0, len(shuffled), 37):
        shard = f"shard-{start % 2}"
        sink = open_sink(SinkContext("audit", shard, tmp_path, {}))
        deliver(sink, *shuffled[start : start + 37], shard=shard)
        sink.close()
    recorded = postgres.query("SELECT op, old::text, new::text, coalesce(actor, ''), xid FROM recorded ORDER BY number")
    expected: dict[int, list[tuple[Any, ...]]] = {}
    for op, old, new, actor, xid in recorded:
        before, after = (json.loads(text, parse_float=Decimal) if text else {} for text in (old, new))
        expected.setdefault({**before, **after}["id"], []).append((op, before, after, actor, xid))
    assert len(recorded) == len(changes)
    for key, entries in expected.items():
        events = log.history(tmp_path, log.RowRef("main", Table("public", "orders"), f"[{key}]"))
        found = [(event.op.value, (event.annotation or {}).get("actor", ""), event.xid) for event in events]
        assert found == [(op, actor, xid) for op, _, _, actor, xid in entries]
        for event, (_, before, after, _, _) in zip(events, entries, strict=True):
            names = [name for name in {**before, **after} if not after or before.get(name) != after[name]]
            assert dict(event.changed) == {name: (before.get(name), after.get(name)) for name in names}
