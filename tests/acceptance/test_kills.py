"""Kill -9 whatever runs, start it again: the satellites equal the database, nothing applied twice or lost."""

import random
import threading
import time

import pytest

from tests.support.processes import descendants, kill
from tests.support.sandbox_run import SandboxRun
from tests.support.seed import seed

pytestmark = [pytest.mark.acceptance, pytest.mark.chaos, pytest.mark.timeout(240)]
CONSUMERS = ("search", "parquet", "audit")


def start(whole: SandboxRun, *names: str) -> None:
    for name in names:
        whole.parts.start(name, ["producer", "run"] if name == "producer" else ["consumer", "run", name])


def test_satellites_equal_the_database_after_kills(whole: SandboxRun) -> None:
    chance = random.Random(seed())
    start(whole, "producer", *CONSUMERS)
    whole.shop.create()
    ended = threading.Event()
    failures: list[BaseException] = []

    def work() -> None:
        try:
            whole.shop.run(40.0, ended.is_set)
        except BaseException as error:
            failures.append(error)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        for name in CONSUMERS:
            whole.wait(lambda name=name: len(whole.reports(name)) == 2 and all(one.read for one in whole.reports(name)))  # type: ignore[misc]
        for victim in ("producer", chance.choice(CONSUMERS)):
            time.sleep(chance.uniform(0.2, 1.5))
            processes = descendants(whole.parts.running[victim].pid)
            kill(*processes)
            whole.wait(lambda victim=victim: _gone(whole, victim))  # type: ignore[misc]
            start(whole, victim)
        child_of = chance.choice(CONSUMERS)  # only the Python child of one shard: the launcher brings it back by itself
        whole.wait(lambda: len(descendants(whole.parts.running[child_of].pid)) == 4)  # launcher, Java, a child a shard
        time.sleep(chance.uniform(0.2, 1.5))
        kill(descendants(whole.parts.running[child_of].pid)[-1])
        time.sleep(3)
    finally:
        ended.set()
        worker.join()
    assert not failures
    whole.wait_until_equal(*CONSUMERS, seconds=90)
    whole.parts.check()
    verdict = whole.cdcctl("audit", "verify", "-o", "json")
    assert verdict.returncode == 0, verdict.stderr
    for name in CONSUMERS:
        for report in whole.reports(name):
            assert report.read == report.applied + report.superseded + report.dead_lettered
            assert report.dead_lettered == 0


def _gone(whole: SandboxRun, name: str) -> bool:
    whole.parts.running[name].reap()
    return not whole.parts.running[name].alive
