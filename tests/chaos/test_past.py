"""Snapshot and backfill while the same rows change, killed again and again: every satellite equals the source."""

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from cdckit.runtime.settings import Settings
from producer.kinesis.stream import Stream, kinesis_client
from tests.chaos.test_producer import caught_up
from tests.support.file_stream import FileStream, file_stream
from tests.support.local_aws import Cloud
from tests.support.postgres import Database
from tests.support.processes import kill
from tests.support.satellites import SATELLITES, differences, filled
from tests.support.scale import scale

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(7200)]
ROWS = scale(30_000, 1_000_000)
KILLS = scale(3, 20)
RATE = 500
_SCHEMA = f"""
CREATE TABLE docs (id bigint PRIMARY KEY, n integer NOT NULL, body text, at timestamptz NOT NULL DEFAULT now());
CREATE TABLE parts (kind text, no integer, price numeric(10,2), PRIMARY KEY (kind, no));
INSERT INTO docs SELECT i, 0, CASE WHEN i % 500 = 0 THEN repeat(md5(i::text), 400) ELSE 'body ' || i END
  FROM generate_series(1, {ROWS}) i;
INSERT INTO parts SELECT 'k' || i % 7, i, i / 4.0 FROM generate_series(1, {ROWS // 10}) i;
"""
_AGAIN = """
INSERT INTO docs SELECT i, -1, 'again' FROM generate_series(%s::int, %s::int) i
ON CONFLICT (id) DO UPDATE SET body = excluded.body
"""
_MOVED = """
UPDATE docs SET id = -id WHERE id = %s AND id %% 500 <> 0 AND NOT EXISTS (SELECT FROM docs o WHERE o.id = -docs.id)
"""


@dataclass
class Storm:
    """At least `RATE` changes a second: updates (some leave large values unchanged), deletes, re-inserts, new keys."""

    dsn: str
    changes: int = 0
    seconds: float = 0.0
    failure: BaseException | None = None
    _ended: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self._work)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()
        assert self.failure is None, self.failure

    def _work(self) -> None:
        try:
            with closing(psycopg2.connect(self.dsn)) as connection:
                self._storm(connection)
        except BaseException as error:
            self.failure = error

    def _storm(self, connection: Any) -> None:
        chance, started = random.Random(3), time.monotonic()
        while not self._ended.is_set():
            with connection, connection.cursor() as cursor:
                for _ in range(10):
                    cursor.execute(*self._statement(chance))
                    self.changes += cursor.rowcount
            time.sleep(max(0.0, self.changes / (1.2 * RATE) - (time.monotonic() - started)))
        self.seconds = time.monotonic() - started

    def _statement(self, chance: random.Random) -> tuple[str, tuple[Any, ...]]:
        key, dice = chance.randint(1, ROWS), chance.random()
        if dice < 0.5:
            return "UPDATE docs SET n = n + 1 WHERE id BETWEEN %s AND %s", (key, key + 1)
        if dice < 0.65:
            return "DELETE FROM docs WHERE id BETWEEN %s AND %s", (key, key + 2)
        if dice < 0.85:
            return _AGAIN, (key, key + 2)
        if dice < 0.93:  # a large value that a new key leaves unchanged is not in the log: see docs/producer.md
            return _MOVED, (key,)
        return "UPDATE parts SET price = price + 1, no = no + %s WHERE no = %s", (chance.choice((0, ROWS)), key // 10)


@dataclass
class Part:
    """A process that is killed and started again until it is done; kills come at about even shares of its work."""

    arguments: list[str]
    environ: dict[str, str]
    log: Path
    done: Callable[["Part"], bool]
    fills: str
    process: subprocess.Popen[bytes] | None = None

    def share(self) -> float:
        """How much of the ranges is done; -1 before there is a plan, and at the very end."""
        folder = Path(self.environ["CDC_DATA"]) / "fills"
        lines = next((path.read_bytes().split(b"\n")[:-1] for path in folder.glob(self.fills)), [])
        if not lines:
            return -1.0
        ranges = sum(len(part["ranges"]) for part in json.loads(lines[0])["parts"])
        return len(lines[1:]) / ranges

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *self.arguments], env={**os.environ, **self.environ}, stdout=log, stderr=log
            )

    def killed(self, times: int, chance: random.Random) -> int:
        """Kill -9 so many times at work, then let it end; how often it was hit at work."""
        hits = 0
        while True:
            self.start()
            assert self.process is not None
            while not self.done(self) and not (hits < times and self._due(hits, times)):
                assert self.process.poll() is None or self.done(self), self.log.read_text()[-2000:]
                time.sleep(0.05)
            if hits < times:
                time.sleep(chance.uniform(0.0, 0.3))
            if self.done(self):
                return hits
            hits += 1
            kill(self.process.pid)
            self.process.wait()

    def _due(self, hits: int, times: int) -> bool:
        """Whether it reads, and has done its share since the beginning."""
        return self.log.read_text().count("resuming:") >= hits and self.share() >= hits / (times + 1)


def snapshot_done(stream: str) -> Callable[[Part], bool]:
    tags = Stream(kinesis_client(), stream)
    return lambda _part: (tags.tag("cdc.snapshot.main") or "").endswith("done")


def ended_well(part: Part) -> bool:
    return part.process is not None and part.process.poll() == 0


@pytest.fixture
def kept(cloud: Cloud, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FileStream | None]:
    """The stream in a file, for the full count: a local AWS looks at each of its records at every put."""
    if not scale(False, True):
        yield None
        return
    with file_stream(tmp_path) as made:
        for name, value in made.environ.items():
            monkeypatch.setenv(name, value)
        yield made


def test_every_satellite_equals_the_source_after_snapshot_and_backfill_under_kills(
    postgres: Database, stream: str, kept: FileStream | None, tmp_path: Path
) -> None:
    postgres.run(*_SCHEMA.strip().split(";\n")[:-1])
    postgres.run("ANALYZE")
    environ = {
        "CDC_DSN": postgres.dsn, "CDC_SLOT": postgres.slot, "CDC_STREAM": stream, "CDC_DATA": str(tmp_path / "data"),
    }  # fmt: skip
    settings = Settings(dsn=postgres.dsn, slot=postgres.slot, stream=stream, data=str(tmp_path / "data"))
    chance, storm = random.Random(), Storm(postgres.dsn)
    producer = Part(
        ["producer.cli", "--snapshot", "initial"],
        environ,
        tmp_path / "producer.log",
        snapshot_done(stream),
        "snapshot-*",
    )
    fill = Part(
        ["cdcctl.main", "producer", "backfill", "public.*", "-o", "json"],
        environ,
        tmp_path / "fill.log",
        ended_well,
        "backfill-*",
    )
    try:
        with storm.running():
            hits = [producer.killed(KILLS, chance)]
            hits.append(fill.killed(KILLS, chance))
            time.sleep(1)
        caught_up(postgres, 1800)
    finally:
        for part in (producer, fill):
            if part.process is not None:
                part.process.terminate()
                part.process.wait()
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        one_by_one = pool.map(
            partial(filled, settings, tmp_path / "shadow", kept=kept), [[name] for name in SATELLITES]
        )
        letters = dict(pair for found in one_by_one for pair in found.items())
    say(f"{ROWS} rows, {storm.changes / storm.seconds:.0f} changes/s for {storm.seconds:.0f} s, kills at work {hits}")
    say(fill.log.read_text().strip().splitlines()[-1])
    assert letters == {name: [] for name in letters}
    assert differences(settings, tmp_path / "shadow") == []
    assert storm.changes >= scale(1.0, RATE * storm.seconds)  # `make test` shares its machine
    assert producer.log.read_text().count("resuming:") <= hits[0]


def say(what: str) -> None:
    sys.stderr.write(f"\n{what}\n")
