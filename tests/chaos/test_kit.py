"""The kit with a sink that fails in every way, random kills, a split, a merge and two workers: no gap, no skip."""

import os
import random
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

import pytest

from cdcctl.demo.child_processes import ChildProcesses
from cdckit.envelope import decode
from cdckit.testing import MemorySink, deliver
from consumers.dead_letters import open_store
from consumers.worker.status import read_reports
from tests.chaos.ledger_sink import FILE, is_poison
from tests.support.histories import Entry, folded, history
from tests.support.kcl_parts import parts_in
from tests.support.processes import descendants, kill
from tests.support.resharding_aws import ReshardingCloud
from tests.support.scale import scale

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(scale(600, 3600))]
WORKERS = ("worker 1", "worker 2")


class Feed:
    """Puts a history on the stream, in order, until it is stopped; sometimes folds a hundred changes."""

    def __init__(self, cloud: ReshardingCloud, stream: str, seed: int) -> None:
        self.entries: list[Entry] = []
        self._cloud, self._stream, self._seed = cloud, stream, seed
        self._kinesis = cloud.client("kinesis")
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Feed":
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        chance, endless = random.Random(self._seed), history(self._seed, 300)
        while not self._ended.is_set():
            if chance.random() < 0.005:
                self._put_folded(list(islice(endless, 100)))
            else:
                entry = next(endless)
                self._put(entry.data, entry.partition_key, [entry])
            time.sleep(0.004)

    def _put_folded(self, entries: list[Entry]) -> None:
        by_shard: dict[str, list[Entry]] = {}
        for entry in entries:
            by_shard.setdefault(self._cloud.shard_of(self._stream, entry.partition_key), []).append(entry)
        for group in by_shard.values():
            self._put(folded(group), group[0].partition_key, group)

    def _put(self, data: bytes, key: str, entries: list[Entry]) -> None:
        self._kinesis.put_record(StreamName=self._stream, Data=data, PartitionKey=key)
        self.entries += entries


@pytest.fixture
def parts(tmp_path: Path, resharding: ReshardingCloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[ChildProcesses]:
    with parts_in(tmp_path, resharding, monkeypatch, CDC_TEST_FAULTS="0.02") as made:
        yield made


def test_no_gap_and_no_skip_under_faults_kills_and_resharding(
    tmp_path: Path, resharding: ReshardingCloud, parts: ChildProcesses
) -> None:
    seed = int(os.environ.get("CDC_SEED", time.time_ns()))
    sys.stdout.write(f"CDC_SEED={seed}\n")
    chance, stream, kills = random.Random(seed), resharding.make_stream(), scale(10, 100)

    def start(name: str) -> None:
        parts.start(name, [
            "consumer", "run", "ledger", "--sink", "tests.chaos.ledger_sink:open_sink", "--stream", stream,
            "--app-prefix", stream,
        ])  # fmt: skip

    for name in WORKERS:
        start(name)
    wait_until(lambda: len(read_reports(tmp_path, "ledger")) == 2, 150, parts)
    with Feed(resharding, stream, seed) as feed:
        wait_until(lambda: len(reading(tmp_path)) == 2, 150, parts)
        for number in range(kills):
            if number == kills // 3:
                resharding.split(stream)
            if number == 2 * kills // 3:
                resharding.merge(stream, 1)
            victim = chance.choice(WORKERS)
            processes = descendants(parts.running[victim].pid)
            what = chance.choice(["child", "daemon", "both", "all"])
            chosen = {"child": processes[2:][-1:], "daemon": processes[1:2], "both": processes[1:], "all": processes}
            kill(*chosen[what])
            if what == "all":
                parts.running.pop(victim).reap()
                start(victim)
            time.sleep(chance.uniform(1, 6))
    expected = {entry.change.position.sort_key: entry.change for entry in feed.entries}
    wait_until(lambda: covered(tmp_path) >= expected.keys(), scale(300, 300), parts)

    letters = open_store("", "ledger", tmp_path).read()
    dead = {decode(letter.data).position.sort_key for letter in letters}
    assert dead == {position for position, change in expected.items() if is_poison(change)}
    assert seen(tmp_path) == expected.keys() - dead
    plain = MemorySink()
    deliver(plain, *[change for change in expected.values() if not is_poison(change)])
    assert rows(tmp_path) == {int(str(row["id"])): row["value"] for row in plain.rows.values()}
    for report in read_reports(tmp_path, "ledger"):
        assert report.read == report.applied + report.superseded + report.dead_lettered


def wait_until(done: Callable[[], bool], seconds: float, parts: ChildProcesses) -> None:
    if not happens(done, seconds):
        logs = "\n\n".join(f"{path.name}:\n{end_of(path)}" for path in sorted(parts.logs.glob("*.log")))
        pytest.fail(f"did not happen in {seconds} s:\n{logs}")


def end_of(log: Path) -> str:
    """The log's last lines, without what the sink prints at random."""
    return "\n".join([line for line in log.read_text().splitlines() if '{"action"' not in line][-30:])


def happens(done: Callable[[], bool], seconds: float) -> bool:
    """Whether the condition became true in time."""
    deadline = time.monotonic() + seconds
    while not (happened := done()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return happened


def reading(folder: Path) -> list[str]:
    return [one.shard for one in read_reports(folder, "ledger") if one.read]


def seen(folder: Path) -> set[str]:
    return {str(position) for (position,) in _query(folder, "SELECT position FROM seen")}


def covered(folder: Path) -> set[str]:
    dead = {decode(letter.data).position.sort_key for letter in open_store("", "ledger", folder).read()}
    return seen(folder) | dead


def rows(folder: Path) -> dict[int, str]:
    found = _query(folder, "SELECT id, value FROM row WHERE value IS NOT NULL")
    return {int(str(key)): str(value) for key, value in found}


def _query(folder: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(folder / "ledger" / FILE, timeout=60)) as connection:
        return connection.execute(query).fetchall()


def test_the_history_is_the_same_for_the_same_seed() -> None:
    assert [one.data for one in islice(history(7, 10), 50)] == [one.data for one in islice(history(7, 10), 50)]
