"""DDL while a producer runs, or while it is down: every satellite ends equal to the source by itself."""
# ruff: noqa: E501 -- rows of SQL

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from cdckit.relation import Relation
from cdckit.runtime.settings import Settings
from producer.postgres.catalog import shapes
from producer.postgres.connection import Source
from producer.schema.state import read_shapes, shapes_file
from producer.service import run
from tests.support.local_aws import Cloud
from tests.support.postgres import Database
from tests.support.producer_runs import caught_up
from tests.support.satellites import SATELLITES, differences, filled

pytestmark = pytest.mark.integration
BASE = (
    "CREATE TABLE t (id integer PRIMARY KEY, name text, n integer)",
    "INSERT INTO t SELECT i, 'name ' || i, i FROM generate_series(1, 20) i",
    "CREATE TABLE other (id integer PRIMARY KEY, v text)",
    "INSERT INTO other VALUES (1, 'one'), (2, 'two')",
)
WRITES = ("UPDATE t SET n = n + 1 WHERE id <= 5", "DELETE FROM t WHERE id = 6", "INSERT INTO t (id, n) VALUES (99, 99)")
SCENARIOS: dict[str, Sequence[str]] = {
    "rename a column": ("ALTER TABLE t RENAME name TO title", *WRITES),
    "drop a column": ("ALTER TABLE t DROP COLUMN name", *WRITES),
    "drop and add a column of one name": ("ALTER TABLE t DROP COLUMN name, ADD COLUMN name integer", *WRITES),
    "add a column": ("ALTER TABLE t ADD COLUMN extra text", *WRITES),
    "add a column with a default": ("ALTER TABLE t ADD COLUMN channel text NOT NULL DEFAULT 'web'", *WRITES),
    "add a column with a volatile default": ("ALTER TABLE t ADD COLUMN at text DEFAULT md5(random()::text)", *WRITES),
    "another type": ("ALTER TABLE t ALTER n TYPE bigint USING n * 100", *WRITES),
    "another type of the key": ("ALTER TABLE t ALTER id TYPE text", "UPDATE t SET n = 0 WHERE id = '3'", "DELETE FROM t WHERE id = '4'"),
    "another key": (
        "ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (n)",
        "UPDATE t SET name = 'x' WHERE n = 5", "DELETE FROM t WHERE n = 6", "INSERT INTO t VALUES (99, 'y', 99)",
    ),
    "key added after the load": (
        "CREATE TABLE loaded (id integer, v text)", "INSERT INTO loaded SELECT i, 'v' FROM generate_series(1, 300) i",
        "ALTER TABLE loaded ADD PRIMARY KEY (id)", "UPDATE loaded SET v = 'w' WHERE id <= 10", "DELETE FROM loaded WHERE id = 11",
    ),
    "identity by index": (
        "CREATE TABLE u (id integer PRIMARY KEY, code text NOT NULL UNIQUE, n integer)",
        "ALTER TABLE u REPLICA IDENTITY USING INDEX u_code_key", "INSERT INTO u VALUES (1, 'a', 0), (2, 'b', 0), (3, 'c', 0)",
        "UPDATE u SET n = 1 WHERE id = 1", "UPDATE u SET code = 'B' WHERE id = 2", "DELETE FROM u WHERE id = 3",
    ),
    "identity switched": (
        "ALTER TABLE other ADD COLUMN code text", "UPDATE other SET code = id::text", "ALTER TABLE other ALTER code SET NOT NULL",
        "CREATE UNIQUE INDEX other_code ON other (code)", "ALTER TABLE other REPLICA IDENTITY FULL",
        "UPDATE other SET v = 'f' WHERE id = 1", "ALTER TABLE other REPLICA IDENTITY USING INDEX other_code",
        "UPDATE other SET v = 'i' WHERE id = 1", "DELETE FROM other WHERE id = 2",
    ),
    "rename the table": ("ALTER TABLE t RENAME TO renamed", "UPDATE renamed SET n = 0 WHERE id = 1"),
    "move the table": ("CREATE SCHEMA app", "ALTER TABLE t SET SCHEMA app", "DELETE FROM app.t WHERE id = 1"),
    "drop the table": ("DROP TABLE t",),
    "drop and create": ("DROP TABLE t", "CREATE TABLE t (id integer PRIMARY KEY, other text)", "INSERT INTO t VALUES (1, 'new')"),
    "swap two tables": (
        "BEGIN; ALTER TABLE t RENAME TO temporary_name; ALTER TABLE other RENAME TO t; ALTER TABLE temporary_name RENAME TO other; COMMIT",
        "DELETE FROM other WHERE id = 1",
    ),
    "include columns in the key": (
        "CREATE TABLE i (id integer, v text, w text, PRIMARY KEY (id) INCLUDE (v))", "INSERT INTO i VALUES (1, 'a', 'b'), (2, 'a', 'b')",
        "UPDATE i SET v = 'x' WHERE id = 1", "DELETE FROM i WHERE id = 2",
    ),
    "names and types that need quotes": (
        'CREATE SCHEMA "App"', """CREATE TYPE "App"."Mood" AS ENUM ('sad', 'o"k')""", 'CREATE DOMAIN "App"."We""ird" AS text',
        'CREATE TABLE "App"."user" ("order" integer PRIMARY KEY, "50%" text, mood "App"."Mood", moods "App"."Mood"[], d "App"."We""ird", c char(5))',
        """INSERT INTO "App"."user" VALUES (1, '%s', 'sad', '{sad}', 'x', 'ab'), (2, NULL, NULL, NULL, NULL, ''), (3, 'z', 'o"k', '{}', '', 'z')""",
        """UPDATE "App"."user" SET mood = 'o"k' WHERE "order" = 2""", 'DELETE FROM "App"."user" WHERE "order" = 3',
    ),
    "a key of blank-padded texts": (
        "CREATE TABLE padded (c char(5) PRIMARY KEY, v text)", "INSERT INTO padded VALUES ('ab', 'x'), ('b', 'y')",
        "UPDATE padded SET v = 'z' WHERE c = 'ab'", "DELETE FROM padded WHERE c = 'b'",
    ),
    "key in another order than the table": (
        "CREATE TABLE o (a integer, b integer, v text, PRIMARY KEY (b, a))", "INSERT INTO o VALUES (1, 2, 'x'), (3, 4, 'y')",
        "UPDATE o SET v = 'z'", "UPDATE o SET a = 9 WHERE a = 1", "DELETE FROM o WHERE a = 3",
    ),
}  # fmt: skip


@pytest.fixture
def settings(postgres: Database, cloud: Cloud, stream: str, tmp_path: Path) -> Settings:
    return Settings(dsn=postgres.dsn, slot=postgres.slot, stream=stream, data=str(tmp_path / "data"))


@contextmanager
def producing(settings: Settings, postgres: Database) -> Iterator[None]:
    """A producer in a thread; at the end the tables that DDL changed are filled again and all is on the stream."""
    stopping, errors = threading.Event(), list[BaseException]()

    def work() -> None:
        try:
            run(settings, stopping.is_set)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        active = f"SELECT 1 FROM pg_replication_slots WHERE slot_name = '{settings.slot}' AND active"
        until(lambda: bool(errors or postgres.query(active)))
        yield
        caught_up(postgres, 120)
        refilled(settings, postgres)
        caught_up(postgres, 120)
    finally:
        stopping.set()
        thread.join()
    assert not errors, errors


def refilled(settings: Settings, postgres: Database) -> None:
    """Wait until a look at the catalog found the tables as they are now, and nothing is left to do."""
    time.sleep(1.5)  # a shape that was just met is compared by now
    until(lambda: known(settings) == current(postgres) and not read_shapes(shapes_file(settings)).pending, 90)


def known(settings: Settings) -> set[object]:
    return shape(read_shapes(shapes_file(settings)).relations)


def current(postgres: Database) -> set[object]:
    with closing(Source(postgres.dsn)) as source:
        return shape(shapes(source).values())


def shape(found: Iterable[Relation]) -> set[object]:
    return {
        (one.oid, str(one.table), *one.key, *((column.number, column.name, column.type) for column in one.columns))
        for one in found
    }


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.1)


def execute(postgres: Database, statements: Sequence[str]) -> None:
    for statement in statements:
        postgres.run(*statement.split("; "))


@pytest.mark.parametrize("running", [True, False], ids=["running", "down"])
@pytest.mark.parametrize("statements", list(SCENARIOS.values()), ids=list(SCENARIOS))
def test_every_satellite_equals_the_source_after_ddl(
    settings: Settings, postgres: Database, tmp_path: Path, statements: Sequence[str], running: bool
) -> None:
    with producing(settings, postgres):
        execute(postgres, BASE)
        if running:
            refilled(settings, postgres)
            execute(postgres, statements)
    if not running:
        execute(postgres, statements)
        with producing(settings, postgres):
            pass
    letters = filled(settings, tmp_path / "filled")
    assert letters == {name: [] for name in SATELLITES}
    assert differences(settings, tmp_path / "filled") == []
