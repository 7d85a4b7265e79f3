"""The kit with a sink that fails in every way, random kills, a split, a merge and two workers: no gap, no skip."""

import random
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from cdcctl.demo.child_processes import ChildProcesses
from cdckit.envelope import decode
from cdckit.testing import MemorySink, deliver
from consumers.dead_letters import open_store
from consumers.worker.status import read_reports
from tests.support.feed import Feed
from tests.support.histories import history
from tests.support.kcl import logs, parts_in, start_ledger
from tests.support.ledger import covered, reading, rows, seen
from tests.support.ledger_sink import is_poison
from tests.support.processes import descendants, kill
from tests.support.resharding_aws import ReshardingCloud
from tests.support.scale import scale
from tests.support.seed import seed
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(scale(600, 3600))]
WORKERS = ("worker 1", "worker 2")


@pytest.fixture
def parts(tmp_path: Path, resharding: ReshardingCloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[ChildProcesses]:
    with parts_in(tmp_path, resharding, monkeypatch, CDC_TEST_FAULTS="0.02") as made:
        yield made


def test_no_gap_and_no_skip_under_faults_kills_and_resharding(
    tmp_path: Path, resharding: ReshardingCloud, parts: ChildProcesses
) -> None:
    number = seed()
    chance, stream, kills = random.Random(number), resharding.make_stream(), scale(10, 100)
    for name in WORKERS:
        start_ledger(parts, stream, label=name)
    wait_until(lambda: len(read_reports(tmp_path, "ledger")) == 2, 150, logs(parts))
    with Feed(resharding, stream, number) as feed:
        wait_until(lambda: len(reading(tmp_path)) == 2, 150, logs(parts))
        for turn in range(kills):
            if turn == kills // 3:
                resharding.split(stream)
            if turn == 2 * kills // 3:
                resharding.merge(stream, 1)
            victim = chance.choice(WORKERS)
            processes = descendants(parts.running[victim].pid)
            what = chance.choice(["child", "daemon", "both", "all"])
            chosen = {"child": processes[2:][-1:], "daemon": processes[1:2], "both": processes[1:], "all": processes}
            kill(*chosen[what])
            if what == "all":
                parts.running.pop(victim).reap()
                start_ledger(parts, stream, label=victim)
            time.sleep(chance.uniform(1, 6))
    expected = {entry.change.position.sort_key: entry.change for entry in feed.entries}
    wait_until(lambda: covered(tmp_path) >= expected.keys(), scale(300, 300), logs(parts))

    letters = open_store("", "ledger", tmp_path).read()
    dead = {decode(letter.data).position.sort_key for letter in letters}
    assert dead == {position for position, change in expected.items() if is_poison(change)}
    assert seen(tmp_path) == expected.keys() - dead
    plain = MemorySink()
    deliver(plain, *[change for change in expected.values() if not is_poison(change)])
    assert rows(tmp_path) == {int(str(row["id"])): row["value"] for row in plain.rows.values()}
    for report in read_reports(tmp_path, "ledger"):
        assert report.read == report.applied + report.superseded + report.dead_lettered


def test_the_history_is_the_same_for_the_same_seed() -> None:
    assert [entry.data for entry in islice(history(7, 10), 50)] == [entry.data for entry in islice(history(7, 10), 50)]
