"""The sandbox as a user meets it: reshards with the real KCL, start again, and what it keeps."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cdckit.settings import Settings
from consumers.leases import LeaseTable
from tests.acceptance.conftest import Whole

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300)]
CONSUMERS = ("audit", "search", "parquet")


@contextmanager
def changing(whole: Whole) -> Iterator[None]:
    """Changes while the block runs."""
    done = threading.Event()

    thread = threading.Thread(target=whole.shop.run, args=(100, done.is_set))
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize("fan_out", [False, True])
def test_a_reshard_loses_nothing_and_the_kcl_finishes_the_parents_first(whole: Whole, fan_out: bool) -> None:
    whole.parts.start("producer", ["producer", "run"])
    for name in CONSUMERS:
        whole.parts.start(name, ["consumer", "run", name, *(["--fan-out"] if fan_out else [])])
    whole.shop.create()
    whole.wait_until_equal(*CONSUMERS, seconds=90)
    for count in ("4", "2"):
        with changing(whole):
            time.sleep(1)
            done = whole.cdcctl("stream", "reshard", "--shards", count, "--yes")
            assert done.returncode == 0, done.stderr
            assert f"{count} open shards" in done.stderr
            time.sleep(3)
        whole.wait_until_equal(*CONSUMERS, seconds=90)
    whole.parts.check()
    for name in CONSUMERS:
        leases = LeaseTable(Settings().application(name)).read() or {}
        assert {f"shardId-{n:012d}" for n in range(8)} >= leases.keys() >= {f"shardId-{n:012d}" for n in range(4, 8)}
        ended = {shard for shard, lease in leases.items() if lease.checkpoint == "SHARD_END"}
        assert leases.keys() - ended == {"shardId-000000000006", "shardId-000000000007"}
    verified = whole.cdcctl("audit", "verify")
    assert verified.returncode == 0, verified.stderr
    history = whole.cdcctl("verify", "audit")
    assert history.returncode == 0, history.stderr
    health = whole.cdcctl("status")
    assert health.returncode == 0, health.stdout
