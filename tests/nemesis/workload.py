"""Runs a seeded workload of every kind of change over several tables, at a rate that the local Kinesis can follow.

The same seed makes the same statements. PostgreSQL may be killed at any moment: each statement is valid whether the
last transaction was committed or not, and the confirmed transactions are recorded (`known`).
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import psycopg2

SCHEMA = """
CREATE TABLE account (id integer PRIMARY KEY, n bigint NOT NULL DEFAULT 0, note text);
CREATE TABLE item (id bigint PRIMARY KEY, title text NOT NULL, price numeric(20,6), tags text[], seen timestamptz);
ALTER TABLE item REPLICA IDENTITY FULL;
CREATE TABLE line (orders bigint, no integer, quantity integer, PRIMARY KEY (orders, no));
CREATE TABLE doc (name text PRIMARY KEY, rev integer NOT NULL DEFAULT 0, body text);
CREATE TABLE scratch (id integer PRIMARY KEY, v text);
CREATE TABLE transfer (id bigint PRIMARY KEY, amount numeric, state text);
"""
TABLES = ("account", "item", "line", "doc", "scratch", "transfer")
_HOT, _ITEMS, _DOCS, _SCRATCH, _MAX_COLUMNS = 5, 200, 20, 40, 6
_TIMEOUTS = "-c statement_timeout=20000 -c lock_timeout=5000"
Statement = tuple[str, Sequence[Any]]


@dataclass
class Workload:
    """Changes one database; `rate` is in transactions per second."""

    dsn: str
    seed: int
    rate: float = 12.0
    transactions: int = 0
    failed: int = 0
    known: set[int] = field(default_factory=set)
    _connection: Any = None
    _overlapping: Any = None
    _added: int = 0
    _moved: int = 0

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)

    def create(self) -> None:
        """Create the tables."""
        with psycopg2.connect(self.dsn) as connection, connection.cursor() as cursor:
            cursor.execute(SCHEMA)
        connection.close()

    def run(self, stopping: Callable[[], bool], full: Callable[[], bool] = lambda: False) -> None:
        """Change rows until `stopping` is true; waits while the database is down or the pipeline is `full`."""
        while not stopping():
            began = time.monotonic()
            if not full():
                self.step()
            time.sleep(max(0.0, began + 1 / self.rate - time.monotonic()))
        self.close()

    def step(self) -> None:
        """Run one transaction, and sometimes another one that begins before it and commits after it."""
        statements, overlap = self._statements(), self._chance.random() < 0.08
        try:
            if self._connection is None:
                self._connection, self._overlapping = self._connect(), self._connect()
            if overlap:
                self._transfer()
            self._commit(self._connection, statements)
            if overlap:
                self._end_transfer()
        except psycopg2.Error:
            self.failed += 1
            self.close()
            time.sleep(0.2)

    def _connect(self) -> Any:
        return psycopg2.connect(self.dsn, options=_TIMEOUTS, connect_timeout=5)

    def _commit(self, connection: Any, statements: Sequence[Statement]) -> None:
        with connection.cursor() as cursor:
            changed = [self._execute(cursor, statement) for statement in statements]
            cursor.execute("SELECT txid_current()")
            [(xid,)] = cursor.fetchall()
        connection.commit()
        self.transactions += 1
        if any(changed):
            self.known.add(xid)

    @staticmethod
    def _execute(cursor: Any, statement: Statement) -> bool:
        cursor.execute(*statement)
        return statement[0].startswith(("INSERT", "UPDATE", "DELETE")) and cursor.rowcount > 0

    def _transfer(self) -> None:
        with self._overlapping.cursor() as cursor:
            cursor.execute(
                "INSERT INTO transfer VALUES (%s, %s, 'begun') ON CONFLICT (id) DO UPDATE SET amount = excluded.amount",
                (self._chance.randrange(100), self._chance.randrange(10_000)),
            )

    def _end_transfer(self) -> None:
        self._commit(self._overlapping, [("UPDATE transfer SET state = 'done' WHERE state = 'begun'", ())])

    def close(self) -> None:
        """Close the connections."""
        for connection in (self._connection, self._overlapping):
            if connection is not None:
                with suppress(psycopg2.Error):
                    connection.close()
        self._connection = self._overlapping = None

    def _statements(self) -> list[Statement]:
        made: list[Statement] = []
        if self._chance.random() < 0.15:
            made.append(_annotation(self._chance.choice(["alice", "bob", "Žofie"]), self.transactions))
        for _ in range(self._chance.choice([1, 1, 1, 2, 4])):
            made += self._chance.choices(*_choices())[0](self)
        return made

    def _hot(self) -> list[Statement]:
        key, note = self._chance.randrange(_HOT), f"at {self._chance.random()}"
        return [(
            "INSERT INTO account VALUES (%s, 1, %s) "
            "ON CONFLICT (id) DO UPDATE SET n = account.n + 1, note = excluded.note",
            (key, note),
        )]  # fmt: skip

    def _item(self) -> list[Statement]:
        chance = self._chance
        values = (
            chance.randrange(_ITEMS), f"thing “{chance.randrange(1000)}”", chance.randrange(10**12) / 10**6,
            ["a", "b,c", 'd"e'][: chance.randrange(4)], "2026-11-24 10:00:00+01",
        )  # fmt: skip
        return [(
            "INSERT INTO item VALUES (%s, %s, %s, %s, %s) "
            "ON CONFLICT (id) DO UPDATE SET title = excluded.title, price = excluded.price, tags = excluded.tags",
            values,
        )]  # fmt: skip

    def _remove_item(self) -> list[Statement]:
        return [("DELETE FROM item WHERE id = %s", (self._chance.randrange(_ITEMS),))]

    def _reinsert_item(self) -> list[Statement]:
        key = self._chance.randrange(_ITEMS)
        return [
            ("DELETE FROM item WHERE id = %s", (key,)),
            ("INSERT INTO item (id, title) VALUES (%s, 'came back')", (key,)),
        ]

    def _move_item(self) -> list[Statement]:
        self._moved += 1
        there = _ITEMS + self._moved
        key = self._chance.choice([self._chance.randrange(_ITEMS), there - 1])
        return [(
            "UPDATE item SET id = %s WHERE id = %s AND NOT EXISTS (SELECT FROM item WHERE id = %s)",
            (there, key, there),
        )]  # fmt: skip

    def _doc(self) -> list[Statement]:
        body = self._chance.randbytes(self._chance.randrange(1_500, 20_000)).hex()
        return [(
            "INSERT INTO doc VALUES (%s, 0, %s) "
            "ON CONFLICT (name) DO UPDATE SET rev = doc.rev + 1, body = excluded.body",
            (self._doc_name(), body),
        )]  # fmt: skip

    def _touch_doc(self) -> list[Statement]:
        return [("UPDATE doc SET rev = rev + 1 WHERE name = %s", (self._doc_name(),))]

    def _doc_name(self) -> str:
        return f'page "{self._chance.randrange(_DOCS)}" \\ ü'

    def _many_lines(self) -> list[Statement]:
        order, count = self._chance.randrange(30), self._chance.randrange(50, 250)
        return [(
            "INSERT INTO line SELECT %s, no, %s FROM generate_series(1, %s) no "
            "ON CONFLICT (orders, no) DO UPDATE SET quantity = line.quantity + excluded.quantity",
            (order, self._chance.randrange(9), count),
        )]  # fmt: skip

    def _remove_lines(self) -> list[Statement]:
        return [("DELETE FROM line WHERE orders = %s", (self._chance.randrange(30),))]

    def _scratch(self) -> list[Statement]:
        return [(
            "INSERT INTO scratch VALUES (%s, %s) ON CONFLICT (id) DO UPDATE SET v = excluded.v",
            (self._chance.randrange(_SCRATCH), f"v{self._chance.random()}"),
        )]  # fmt: skip

    def _truncate(self) -> list[Statement]:
        return [("TRUNCATE scratch", ()), *self._scratch()]

    def _add_column(self) -> list[Statement]:
        if self._added >= _MAX_COLUMNS:
            return self._item()
        self._added += 1
        name, kind = f"more_{self._added}", self._chance.choice(["integer", "text", "numeric(12,3)"])
        return [
            (f"ALTER TABLE item ADD COLUMN IF NOT EXISTS {name} {kind}", ()),
            (f"UPDATE item SET {name} = '7' WHERE id = %s", (self._chance.randrange(_ITEMS),)),
        ]


def _annotation(actor: str, number: int) -> Statement:
    text = json.dumps({"actor": actor, "request": f"req-{number}"})
    return "SELECT pg_logical_emit_message(true, 'cdc.annotation', %s)", (text,)


def _choices() -> tuple[Sequence[Callable[[Workload], list[Statement]]], Sequence[float]]:
    """The kinds of change and their weights."""
    kinds = {
        Workload._hot: 30.0, Workload._item: 22.0, Workload._remove_item: 6.0, Workload._reinsert_item: 6.0,
        Workload._move_item: 6.0, Workload._doc: 4.0, Workload._touch_doc: 8.0, Workload._many_lines: 0.7,
        Workload._remove_lines: 0.3, Workload._scratch: 14.0, Workload._truncate: 2.0, Workload._add_column: 1.0,
    }  # fmt: skip
    return list(kinds), list(kinds.values())
