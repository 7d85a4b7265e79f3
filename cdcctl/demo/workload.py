"""The demo's workload: a small shop whose customers, products and orders change in every way that a table can."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from cdckit.change import Table
from producer.postgres.connection import Source

TABLES = tuple(Table("public", name) for name in ("customers", "products", "orders"))
TRACKED_ORDER = 1
"""The id of the order whose history the demo shows."""

_SCHEMA = """
CREATE TABLE customers (id integer PRIMARY KEY, name text NOT NULL, email text, city text, since date NOT NULL DEFAULT current_date);
CREATE TABLE products (
  id integer PRIMARY KEY, title text NOT NULL, description text, price numeric(10,2) NOT NULL, in_stock boolean NOT NULL DEFAULT true
);
CREATE TABLE orders (
  id bigint PRIMARY KEY, customer integer NOT NULL REFERENCES customers, product integer NOT NULL, quantity smallint NOT NULL,
  status text NOT NULL, total numeric(12,2) NOT NULL, note text, placed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
ALTER TABLE orders REPLICA IDENTITY FULL;
"""  # noqa: E501
_NAMES = (
    "Ada",
    "Bo",
    "Chloé",
    "Dmitri",
    "Eun-ji",
    "Farid",
    "Grace",
    "Hana",
    "Ivo",
    "Joëlle",
    "Kofi",
    "Lin",
    "Maya",
    "Noor",
)
_CITIES = ("Lisbon", "Łódź", "Nairobi", "Osaka", "Porto", "Québec", "Reykjavík", "São Paulo", "Turin", "Utrecht")
_SPECIAL_EVERY = 60  # statements
_COLORS = ("blue", "green", "red", "black", "white", "yellow")
_NOUNS = ("shirt", "jacket", "lamp", "teapot", "backpack", "notebook", "chair", "scarf")
_STATUSES = ("new", "paid", "packed", "shipped", "delivered")


@dataclass(slots=True)
class Shop:
    """Runs statements on the source; the same seed produces the same changes."""

    source: Source
    seed: int = 7
    statements: int = 0
    _random: random.Random = field(init=False)
    _open_orders: dict[int, int] = field(default_factory=dict)
    _next_order: int = 1

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)  # noqa: S311 -- test data, not a secret

    def create(self) -> None:
        """Create the tables, and insert customers and products."""
        self.source.query(_SCHEMA)
        for number in range(1, 41):
            self._run("INSERT INTO customers VALUES (%s, %s, %s, %s)", number, *self._person(number))
        for number in range(1, 49):
            title = f"{_COLORS[number % 6]} {_NOUNS[(number - 1) // 6]}"
            self._run(
                "INSERT INTO products VALUES (%s, %s, %s, %s)",
                number, title, f"A {title}, made to last.", self._random.randint(300, 20000) / 100,
            )  # fmt: skip
        self._place()

    def run(self, rate: float, stopping: Callable[[], bool]) -> None:
        """Run about `rate` statements per second until `stopping` is true, including each special case once."""
        specials = iter((self._large_text, self._refund, self._move_product, self._touch_large_text))
        started, count = time.monotonic(), 0
        while not stopping():
            self._step()
            count += 1
            if count % _SPECIAL_EVERY == 0 and (special := next(specials, None)):
                special()
            time.sleep(max(0.0, started + count / rate - time.monotonic()))
        for special in specials:
            special()

    def _step(self) -> None:
        dice = self._random.random()
        if dice < 0.45 or len(self._open_orders) < 5:
            self._place()
        elif dice < 0.85:
            self._advance(self._random.choice(list(self._open_orders)))
        elif dice < 0.92:
            self._cancel(self._random.choice([order for order in self._open_orders if order != TRACKED_ORDER]))
        else:
            product = self._random.randint(2, 40)
            self._run("UPDATE products SET price = round(price * 1.05, 2) WHERE id = %s", product)

    def _place(self) -> None:
        number, quantity = self._next_order, self._random.randint(1, 5)
        self._next_order += 1
        self._open_orders[number] = 0
        total = quantity * self._random.randint(300, 20000) / 100
        self._run(
            "INSERT INTO orders (id, customer, product, quantity, status, total) VALUES (%s, %s, %s, %s, 'new', %s)",
            number, self._random.randint(1, 40), self._random.randint(2, 40), quantity, total,
        )  # fmt: skip

    def _advance(self, order: int) -> None:
        self._open_orders[order] = min(self._open_orders[order] + 1, len(_STATUSES) - 1)
        self._run("UPDATE orders SET status = %s WHERE id = %s", _STATUSES[self._open_orders[order]], order)

    def _cancel(self, order: int) -> None:
        del self._open_orders[order]
        self._run("DELETE FROM orders WHERE id = %s", order)

    def _refund(self) -> None:
        """A transaction with an annotation: who made the change, and why."""
        annotation = {"actor": "alice", "reason": "refund, ticket 4711", "request": "req-9f2c"}
        with self.source.transaction():
            self._run("SELECT pg_logical_emit_message(true, 'cdc.annotation', %s)", json.dumps(annotation))
            statement = "UPDATE orders SET status = 'refunded', total = 0, note = 'arrived broken' WHERE id = %s"
            self._run(statement, TRACKED_ORDER)
            self._run("UPDATE customers SET city = 'Lisbon' WHERE id = 3")
        self._open_orders.pop(TRACKED_ORDER, None)

    def _large_text(self) -> None:
        """A value of about 120 kB, which PostgreSQL stores out of line (TOAST)."""
        words = " ".join(self._random.choice(_NOUNS) + str(self._random.random()) for _ in range(5000))
        self._run("UPDATE products SET description = %s WHERE id = 41", f"An encyclopaedia of things: {words}")

    def _touch_large_text(self) -> None:
        """An update without the large value: the value is not on the stream, and satellites must retain it."""
        self._run("UPDATE products SET price = price + 1 WHERE id = 41")

    def _move_product(self) -> None:
        """A changed primary key, which consumers see as a delete and an insert."""
        self._run("UPDATE products SET id = 1001 WHERE id = 1")

    def _person(self, number: int) -> tuple[str, str, str]:
        name = self._random.choice(_NAMES)
        return f"{name} {chr(65 + number % 26)}.", f"customer{number}@example.com", self._random.choice(_CITIES)

    def _run(self, statement: str, *values: object) -> None:
        self.source.query(statement, values)
        self.statements += 1
