"""The search satellite under the real KCL: two workers, kills, a split; in the end the index equals the rows."""

import os
import random
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from cdcctl.demo.child_processes import ChildProcesses
from cdckit.change import Change, Value
from cdckit.errors import CdcError
from cdckit.testing import MemorySink, deliver
from consumers.search.query import documents
from consumers.worker.status import read_reports
from tests.chaos.test_kit import Feed, wait_until
from tests.support.kcl_parts import parts_in
from tests.support.opensearch import Node
from tests.support.processes import descendants, kill
from tests.support.resharding_aws import ReshardingCloud
from tests.support.scale import scale

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(scale(300, 3600))]
WORKERS = ("worker 1", "worker 2")


@pytest.fixture(params=["sqlite", "opensearch"])
def options(request: pytest.FixtureRequest) -> Mapping[str, Any]:
    if request.param == "sqlite":
        return {"engine": "sqlite"}
    node: Node = request.getfixturevalue("opensearch")
    return node.options()


@pytest.fixture
def parts(
    tmp_path: Path, resharding: ReshardingCloud, options: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> Iterator[ChildProcesses]:
    lines = [f"{name} = {value!r}" for name, value in options.items()]
    toml = "\n".join(["[consumers.search]", *lines]) + "\n"
    with parts_in(tmp_path, resharding, monkeypatch, toml) as made:
        yield made


def test_the_index_equals_the_rows_after_kills_and_a_split(
    tmp_path: Path, resharding: ReshardingCloud, parts: ChildProcesses, options: Mapping[str, Any]
) -> None:
    seed = int(os.environ.get("CDC_SEED", time.time_ns()))
    sys.stdout.write(f"CDC_SEED={seed}\n")
    chance, stream, kills = random.Random(seed), resharding.make_stream(), scale(4, 60)

    def start(name: str) -> None:
        parts.start(name, ["consumer", "run", "search", "--stream", stream, "--app-prefix", stream])

    for name in WORKERS:
        start(name)
    with Feed(resharding, stream, seed) as feed:
        wait_until(lambda: sum(report.read > 0 for report in read_reports(tmp_path, "search")) == 2, 60, parts)
        for number in range(kills):
            if number == kills // 2:
                resharding.split(stream)
            victim = chance.choice(WORKERS)
            processes = descendants(parts.running[victim].pid)
            everything = chance.random() < 0.5
            kill(*(processes if everything else processes[2:][-1:]))
            if everything:
                parts.running.pop(victim).reap()
                start(victim)
            time.sleep(chance.uniform(1, 5))
    changes = [entry.change for entry in feed.entries]
    plain = MemorySink()
    deliver(plain, *changes)
    wait_until(lambda: indexed(tmp_path, options, changes) == expected(plain), scale(90, 300), parts)
    for report in read_reports(tmp_path, "search"):
        assert report.read == report.applied + report.superseded + report.dead_lettered
        assert report.dead_lettered == 0


Rows = Mapping[str, Mapping[str, Value]]


def expected(plain: MemorySink) -> Rows:
    rows = {row: dict(values) for row, values in plain.rows.items()}
    assert rows, "the history leaves rows behind"
    return rows


def indexed(folder: Path, options: Mapping[str, Any], changes: list[Change]) -> Rows:
    found: dict[str, Mapping[str, Value]] = {}
    try:
        for source, table in {(change.source, change.table) for change in changes}:
            for key, values, _ in documents(folder / "search", source, table, options):
                found[f"{source}/{table}/{key}"] = dict(values)
    except CdcError:
        return {}
    return found
