"""Kills during appends and anchors, duplicates, disorder, two writers: no entry twice, all chains verify."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cdckit.sink import SinkContext
from cdckit.testing import change, deliver
from consumers.audit.log import open_log
from consumers.audit.sink import open_sink
from tests.chaos.audit_writer import COUNT
from tests.support.scale import scale

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(scale(280, 3600))]

WRITER = (sys.executable, "-m", "tests.chaos.audit_writer")


def test_no_entry_twice_none_missing_and_the_chains_verify_after_each_kill(tmp_path: Path) -> None:
    seed = int(os.environ.get("CDC_SEED", time.time_ns()))
    sys.stdout.write(f"CDC_SEED={seed}\n")
    chance = random.Random(seed)
    for number in range(scale(10, 100)):
        writers = [
            subprocess.Popen(
                [*WRITER, str(tmp_path), f"shard-{shard}", f"{seed}-{number}-{shard}"], stdout=subprocess.PIPE
            )
            for shard in range(2)
        ]
        for writer in writers:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n", "a writer did not open the log: see its error above"
        for writer in writers:
            time.sleep(chance.uniform(0, 0.3))
            writer.kill()
            writer.wait()
            assert writer.stdout is not None
            writer.stdout.close()
        with open_log(tmp_path) as log:
            proofs = log.verify()
            positions = [entry.position for entry in log.store.entries()]
        assert [proof.broken for proof in proofs if proof.broken] == []
        assert len(positions) == len(set(positions))
    sink = open_sink(SinkContext("audit", "shard-0", tmp_path, {}))
    deliver(sink, *[change("U", at % 50, {"n": at}, at=at) for at in range(1, COUNT + 1)], shard="shard-0")
    sink.close()
    with open_log(tmp_path) as log:
        assert not any(proof.broken for proof in log.verify())
        assert len(list(log.store.entries())) == COUNT
