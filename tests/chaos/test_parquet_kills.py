"""Kills, paused writers and merges at random moments: the change log contains the stream exactly once."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

import pytest

from cdckit.change import Table
from cdckit.envelope import VERSION, Metadata, decode, inject
from cdckit.testing import MemorySink, deliver
from consumers.parquet.lake import Lake
from consumers.parquet.maintain.compaction import CompactionPolicy, compact_table
from consumers.parquet.read.current_rows import current_rows
from consumers.parquet.read.query import connect
from tests.chaos.lake_writer import END, give_lease
from tests.support.histories import history
from tests.support.scale import scale

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(scale(240, 1800))]
LEFT, RIGHT, LEFT_LOW, LEFT_HIGH = "shard-0", "shard-1", "shard-2", "shard-3"
"""The first two shards, and the children of the left one after its split."""


class Stream:
    """One file per shard, written in order until it is stopped; `split` splits the left shard."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.records: list[bytes] = []
        self._folder, self._split, self._stop = folder, threading.Event(), threading.Event()
        self._files = {shard: (folder / f"{shard}.jsonl").open("ab", 0) for shard in SHARDS}
        self._source = records(seed)
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Stream":
        self._thread.start()
        return self

    def split(self) -> None:
        self._split.set()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        for file in self._files.values():
            file.close()

    def _run(self) -> None:
        ended = False
        while not self._stop.is_set():
            if self._split.is_set() and not ended:
                self._files[LEFT].write(END + b"\n")
                ended = True
            for record in islice(self._source, 5):
                self.records.append(record)
                for shard in self._shards(record, ended):
                    self._files[shard].write(record + b"\n")
            time.sleep(0.01)
        for shard in SHARDS[1:] if ended else SHARDS:
            self._files[shard].write(END + b"\n")

    def _shards(self, record: bytes, split: bool) -> list[str]:
        change = decode(record)
        left = (LEFT_LOW, LEFT_HIGH) if split else (LEFT, LEFT)
        if not change.key:
            return list(dict.fromkeys([*left, RIGHT]))  # a truncate goes to every shard
        key = int(str(change.key["id"]))
        return [RIGHT] if key % 2 else [left[key // 2 % 2]]


SHARDS = (LEFT, RIGHT, LEFT_LOW, LEFT_HIGH)


def records(seed: int) -> Iterator[bytes]:
    """Inserts, updates and deletes of orders; items in two schema versions; sometimes a truncate of items."""
    chance = random.Random(seed)
    for index, entry in enumerate(history(seed, 60), 1):
        yield entry.data
        op = "T" if chance.random() < 0.01 else "I"
        new = ',{"name":"extra","type":"boolean","value":true}' if chance.random() < 0.5 else ""
        kind = "bigint" if new else "integer"
        columns = (
            f',"columns":[{{"name":"id","type":"integer","value":{index}}},'
            f'{{"name":"n","type":"{kind}","value":{index}}}{new}],"pk":[{{"name":"id","type":"integer"}}]'
        )
        row = (
            f'{{"action":"{op}","xid":{index},"timestamp":"2026-11-24 04:14:15+00","schema":"public","table":"items"'
            f"{'' if op == 'T' else columns}}}"
        )
        yield inject(row.encode(), Metadata(VERSION, 1, f"0/{index:X}", 1, "main"))


class Writers:
    """The shards' processes; children of a split start when their parent has ended."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.ended: set[str] = set()
        self._started = 0

    def start(self, name: str) -> subprocess.Popen[bytes]:
        self._started += 1
        owner = str(self._started)
        give_lease(self._folder, name, owner)
        command = [sys.executable, "-m", "tests.chaos.lake_writer", str(self._folder), name, owner]
        with (self._folder / "log").open("ab") as log:
            return subprocess.Popen(command, stderr=log)

    def restart(self) -> None:
        """Record which writers ended, and start those that should run and do not."""
        for shard, process in list(self.running.items()):
            if process.poll() is not None:
                del self.running[shard]
                assert process.returncode in (0, -signal.SIGKILL), (self._folder / "log").read_text()[-3000:]
                if process.returncode == 0:
                    self.ended.add(shard)
        ready = {LEFT, RIGHT} | ({LEFT_LOW, LEFT_HIGH} if LEFT in self.ended else set())
        for shard in ready - self.ended - self.running.keys():
            self.running[shard] = self.start(shard)

    def kill(self, shard: str) -> None:
        self.running[shard].kill()
        self.running[shard].wait()

    def make_zombie(self, shard: str, seconds: float) -> None:
        """Pause the writer, start a successor at the last checkpoint, resume the writer, and kill it later."""
        zombie = self.running.pop(shard)
        zombie.send_signal(signal.SIGSTOP)
        self.restart()
        time.sleep(seconds)
        zombie.send_signal(signal.SIGCONT)
        with suppress(subprocess.TimeoutExpired):
            zombie.wait(seconds)
        zombie.kill()
        zombie.wait()

    def merge_and_kill(self, seconds: float) -> None:
        process = self.start("tidy")
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        process.kill()
        process.wait()


def test_the_change_log_contains_the_stream_exactly_once_after_kills(tmp_path: Path) -> None:
    seed = int(os.environ.get("CDC_SEED", time.time_ns()))
    sys.stdout.write(f"CDC_SEED={seed}\n")
    chance, kills, writers = random.Random(seed), scale(12, 110), Writers(tmp_path)
    done = {"kill": 0, "zombie": 0, "merge": 0}
    with Stream(tmp_path, seed) as stream:
        for number in range(kills):
            if number == kills // 2:
                stream.split()
            writers.restart()
            time.sleep(chance.uniform(0.3, 1.5))
            writers.restart()
            if writers.running:
                _strike(writers, chance, done)
    while len(writers.ended) < len(SHARDS):
        writers.restart()
        time.sleep(0.05)
    sys.stdout.write(f"{len(stream.records)} changes, {done}\n")
    check(tmp_path, stream.records)
    lake = Lake.at(tmp_path / "lake")
    for ref in lake.tables():
        compact_table(lake, ref, CompactionPolicy())
    check(tmp_path, stream.records)


def _strike(writers: Writers, chance: random.Random, done: dict[str, int]) -> None:
    shard = chance.choice(sorted(writers.running))
    what = chance.choices(["kill", "zombie", "merge"], (6, 3, 2))[0]
    done[what] += 1
    if what == "kill":
        writers.kill(shard)
    elif what == "zombie":
        writers.make_zombie(shard, chance.uniform(0.5, 1.5))
    else:
        writers.merge_and_kill(chance.uniform(0.8, 1.6))


def check(folder: Path, stream: list[bytes]) -> None:
    changes = [decode(record) for record in stream]
    memory = MemorySink()
    deliver(memory, *changes)
    connection = connect(folder / "lake")
    for name in ("orders", "items"):
        expected = sorted(change.position.sort_key for change in changes if change.table.name == name)
        found = connection.sql(f"SELECT _position FROM {name}_changes ORDER BY 1").fetchall()
        assert [position for (position,) in found] == expected, "no position twice, none missing"
        rows = dict(current_rows(folder / "lake", "main", Table("public", name)))
        prefix = f"main/public.{name}/"
        assert rows == {key.removeprefix(prefix): row for key, row in memory.rows.items() if key.startswith(prefix)}
