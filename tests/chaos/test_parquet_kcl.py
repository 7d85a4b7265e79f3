"""The lake under the real KCL: its daemon and children are killed, a shard is split; each change is there once."""

import os
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from cdcctl.demo.child_processes import ChildProcesses
from cdckit.change import Table
from cdckit.errors import SatelliteError
from cdckit.testing import MemorySink, deliver
from consumers.parquet.read.current_rows import current_rows
from consumers.parquet.read.query import connect
from tests.chaos.test_kit import Feed, wait_until
from tests.support.kcl_parts import parts_in
from tests.support.processes import descendants, kill
from tests.support.resharding_aws import ReshardingCloud
from tests.support.scale import scale

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(scale(240, 1200))]


@pytest.fixture
def parts(tmp_path: Path, resharding: ReshardingCloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[ChildProcesses]:
    with parts_in(tmp_path, resharding, monkeypatch, "[consumers.parquet]\nflush_seconds = 0.3\n") as made:
        yield made


def test_every_change_once_across_kills_and_a_split(
    tmp_path: Path, resharding: ReshardingCloud, parts: ChildProcesses
) -> None:
    seed = int(os.environ.get("CDC_SEED", time.time_ns()))
    sys.stdout.write(f"CDC_SEED={seed}\n")
    chance, stream, kills = random.Random(seed), resharding.make_stream(), scale(3, 20)
    command = ["consumer", "run", "parquet", "--stream", stream, "--app-prefix", stream]
    parts.start("parquet", command)
    with Feed(resharding, stream, seed) as feed:
        wait_until(lambda: len(positions(tmp_path)) > 10, 60, parts)
        for number in range(kills):
            if number == kills // 2:
                resharding.split(stream)
            processes = descendants(parts.running["parquet"].pid)
            kill(*chance.choice([processes[2:][-1:], processes[1:2], processes[1:]]))
            time.sleep(chance.uniform(1, 5))
    expected = {entry.change.position.sort_key for entry in feed.entries}
    wait_until(lambda: set(positions(tmp_path)) >= expected, scale(120, 300), parts)
    assert sorted(positions(tmp_path)) == sorted(expected), "no position twice"
    memory = MemorySink()
    deliver(memory, *[entry.change for entry in feed.entries])
    rows = dict(current_rows(tmp_path / "parquet", "main", Table("public", "orders")))
    assert rows == {key.rpartition("/")[2]: row for key, row in memory.rows.items()}


def positions(folder: Path) -> list[str]:
    try:
        found = connect(folder / "parquet").sql("SELECT _position FROM orders_changes").fetchall()
    except (SatelliteError, duckdb.Error):
        return []
    return [position for (position,) in found]
