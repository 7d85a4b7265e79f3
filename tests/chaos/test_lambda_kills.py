"""The Lambda function killed at its limit, in the middle of a batch, again and again: nothing is lost."""

import random
import time

import pytest

from tests.support.fault_proxy import FaultProxy, Faults
from tests.support.kill_audit import StreamKeys, assert_covers, nothing_is_missing, overlapping_writes
from tests.support.lambda_function import Function
from tests.support.local_aws import Cloud
from tests.support.postgres import Database
from tests.support.producer_runs import caught_up, confirmed, producing, settings_for
from tests.support.scale import scale
from tests.support.seed import seed
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(3600)]
KILLS = scale(5, 50)


def test_killed_in_mid_batch_it_loses_nothing_and_acknowledges_nothing_early(
    postgres: Database, cloud: Cloud, stream: str
) -> None:
    """At each kill a request is with the stream, answered or not; what the slot then says must hold."""
    chosen = seed()
    chance, settings, keys = random.Random(chosen), settings_for(postgres, stream, "no"), StreamKeys(stream)
    with FaultProxy(cloud.url, seed=chosen) as proxy, overlapping_writes(postgres, chosen) as committed:
        for number in range(KILLS):
            environ = {
                **cloud.environ, "AWS_ENDPOINT_URL_KINESIS": proxy.url, "CDC_DSN": settings.dsn, "CDC_STREAM": stream,
                "CDC_SLOT": settings.slot, "CDC_AGGREGATE": "yes" if number % 2 else "no",
            }  # fmt: skip
            kill_in_mid_batch(Function(environ, seconds=900), proxy, chance)
            at = confirmed(postgres)
            proxy.faults = Faults()
            assert_covers(postgres, keys.read(), at)
    with producing(settings):
        caught_up(postgres, 120)
    nothing_is_missing(stream, committed, KILLS)


def kill_in_mid_batch(function: Function, proxy: FaultProxy, chance: random.Random) -> None:
    """Kill it while requests are under way: some are never answered, some were refused in part."""
    before = proxy.counts["PutRecords"]
    proxy.faults = Faults(reject=0.1, drop=0.05, delay=0.05, stalled=chance.random() < 0.4)
    invocation = function.start()

    def has_put() -> bool:
        assert invocation.poll() is None, function.finish(invocation)
        return proxy.counts["PutRecords"] > before

    wait_until(has_put, 60, "the function puts records", 0.002)
    time.sleep(chance.choice((0, chance.uniform(0, 0.05), chance.uniform(0, 1))))
    invocation.kill()
    assert function.finish(invocation).error == {"errorMessage": "killed"}
