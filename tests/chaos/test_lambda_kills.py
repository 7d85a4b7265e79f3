"""The Lambda function killed at its limit, in the middle of a batch, again and again: nothing is lost."""

import os
import random
import threading
import time

import pytest

from tests.chaos.test_producer import (
    assert_covers,
    caught_up,
    confirmed,
    producing,
    say,
    settings_for,
    write_overlapping,
)
from tests.fault_proxy import FaultProxy, Faults
from tests.lambda_function import Function
from tests.local_aws import Cloud
from tests.postgres import Database
from tests.scale import scale
from tests.stream_audit import audit_stream

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(3600)]
KILLS = scale(5, 50)


def test_killed_in_mid_batch_it_loses_nothing_and_acknowledges_nothing_early(
    postgres: Database, cloud: Cloud, stream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each kill a request is with the stream, answered or not; what the slot then says must hold."""
    seed = int(os.environ.get("CDC_SEED") or time.time_ns() % 1_000_000)
    say(f"CDC_SEED={seed}")
    chance = random.Random(seed)
    settings = settings_for(postgres, stream, "no")
    committed: list[int] = []
    ended = threading.Event()
    writer = threading.Thread(target=write_overlapping, args=(postgres, committed, ended, seed))
    with FaultProxy(cloud.url, seed=seed) as proxy:
        environ = {
            **cloud.environ, "AWS_ENDPOINT_URL_KINESIS": proxy.url, "CDC_DSN": settings.dsn, "CDC_SLOT": settings.slot,
            "CDC_STREAM": stream,
        }  # fmt: skip
        writer.start()
        try:
            for number in range(KILLS):
                environ["CDC_AGGREGATE"] = "yes" if number % 2 else "no"
                kill_in_mid_batch(Function(environ, seconds=900), proxy, chance)
                at = confirmed(postgres)
                proxy.faults = Faults()
                assert_covers(postgres, stream, at)
        finally:
            ended.set()
            writer.join()
    monkeypatch.setenv("AWS_ENDPOINT_URL_KINESIS", cloud.url)
    with producing(settings):
        caught_up(postgres, 120)
    found = audit_stream(stream)
    seen = {change.key["id"] for changes in found.by_key.values() for change in changes}
    missing = set(committed) - seen
    say(f"{KILLS} kills, {len(committed)} changes committed, {len(missing)} missing, {found.repeated} repeated")
    assert not missing
    assert found.inversions == 0


def kill_in_mid_batch(function: Function, proxy: FaultProxy, chance: random.Random) -> None:
    """Kill it while requests are under way: some are never answered, some were refused in part."""
    before = proxy.counts["PutRecords"]
    proxy.faults = Faults(reject=0.1, drop=0.05, delay=0.05, stalled=chance.random() < 0.4)
    invocation = function.start()
    deadline = time.monotonic() + 60
    while proxy.counts["PutRecords"] == before:
        assert invocation.poll() is None, function.finish(invocation)
        assert time.monotonic() < deadline, "it puts nothing"
        time.sleep(0.002)
    time.sleep(chance.choice((0, chance.uniform(0, 0.05), chance.uniform(0, 1))))
    invocation.kill()
    assert function.finish(invocation).error == {"errorMessage": "killed"}
