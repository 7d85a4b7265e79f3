"""The checker is worth its word: a bug that breaks a law, planted into the real parts, is found; without it nothing is.

Law 6 (one vocabulary) is no matter of a run: tests/unit/test_settings.py and test_reference.py hold it.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import boto3
import pytest

from cdcctl.sandbox.postgres import DATABASE, Cluster
from cdckit.position import Lsn
from cdckit.runtime.settings import Settings
from consumers.stream.record import RawRecord
from consumers.worker.status import read_reports
from producer.postgres.connection import Source
from producer.postgres.server import wal_end
from producer.postgres.slots import drop_slot, find_slot
from tests.chaos.test_producer import producing
from tests.nemesis.checker import Evidence, Finding, Sample, check
from tests.nemesis.driven import Driven, records
from tests.nemesis.evidence import read_stream, satellite
from tests.nemesis.planted import plant
from tests.nemesis.run import Plan, run
from tests.nemesis.timeline import Timeline
from tests.nemesis.truth import open_slots, read_truth
from tests.nemesis.workload import Workload
from tests.support.fault_proxy import FaultProxy, Faults
from tests.support.local_aws import Cloud
from tests.support.resharding_aws import ReshardingCloud
from tests.support.scale import scale

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]
NOTHING = ""


@dataclass
class Bench:
    """A database, a stream and a proxy before it."""

    settings: Settings
    proxy: FaultProxy
    work: Workload

    def change(self, transactions: int) -> None:
        for _ in range(transactions):
            self.work.step()

    def sample(self) -> Sample:
        with closing(Source(self.settings.dsn)) as source:
            slot = find_slot(source, self.settings.slot)
        assert slot is not None
        return Sample(time.time(), slot.confirmed)

    def end(self) -> Lsn:
        with closing(Source(self.settings.dsn)) as source:
            return wal_end(source)

    def caught_up(self) -> None:
        end, deadline = self.end(), time.monotonic() + 120
        while self.sample().confirmed < end:
            assert time.monotonic() < deadline, "the producer does not catch up"
            time.sleep(0.05)

    def evidence(self) -> Evidence:
        committed = read_truth(self.settings.dsn, truth(self.settings.slot))
        audit, seen = read_stream(self.settings.stream)
        return Evidence(committed, self.work.known, audit, seen)


def truth(name: str) -> str:
    return f"{name}_truth"


@contextmanager
def opened_bench(cluster: Cluster, cloud: Cloud, folder: Path, seed: int = 5) -> Iterator[Bench]:
    name = f"planted{time.time_ns()}"
    with closing(Source(cluster.dsn)) as admin:
        admin.query(f"CREATE DATABASE {name}")
    dsn = cluster.dsn.replace(f"/{DATABASE}", f"/{name}")
    open_slots(dsn, name, truth(name))
    with pytest.MonkeyPatch.context() as patch, FaultProxy(cloud.url, seed) as proxy:
        for variable, value in cloud.environ.items():
            patch.setenv(variable, value)
        patch.setattr(boto3, "DEFAULT_SESSION", None)
        with closing(boto3.client("kinesis")) as kinesis:
            kinesis.create_stream(StreamName=name, ShardCount=2)
            kinesis.get_waiter("stream_exists").wait(StreamName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 30})
        work = Workload(dsn, seed)
        work.create()
        yield Bench(Settings(dsn=dsn, slot=name, stream=name, data=str(folder)), proxy, work)
        work.close()
    with closing(Source(dsn)) as source:
        drop_slot(source, name)
        drop_slot(source, truth(name))


@pytest.fixture
def bench(cluster: Cluster, local_aws: Cloud, tmp_path: Path) -> Iterator[Bench]:
    with opened_bench(cluster, local_aws, tmp_path) as made:
        yield made


@contextmanager
def proxied(bench: Bench) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL_KINESIS", bench.proxy.url)
        yield


def laws(findings: Sequence[Finding]) -> set[int]:
    return {finding.law for finding in findings}


@pytest.mark.parametrize("bug", [NOTHING, "acknowledges-early"])
def test_law_1_acknowledge_late(bench: Bench, monkeypatch: pytest.MonkeyPatch, bug: str) -> None:
    """The stream takes nothing for a while: the slot must not move, whatever is read from it."""
    plant(bug, monkeypatch.setattr)
    with proxied(bench), producing(bench.settings):
        bench.change(5)
        bench.caught_up()
        bench.proxy.faults = Faults(stalled=True)
        before = bench.sample().confirmed
        bench.change(20)
        samples = [bench.sample()]
        deadline = time.monotonic() + 4  # the bug shows within a second; without it, there is nothing to wait for
        while samples[-1].confirmed == before and time.monotonic() < deadline:
            time.sleep(0.2)
            samples.append(bench.sample())
        time.sleep(2)  # longer than any delay of a change, by which the checker bounds how far the clocks are apart
        bench.proxy.faults = Faults()
        bench.caught_up()
    findings = check(replace(bench.evidence(), samples=samples))
    assert laws(findings) == ({1} if bug else set()), findings[:5]


@pytest.mark.parametrize("bug", [NOTHING, "swaps-a-key"])
def test_law_3_order_per_key(bench: Bench, monkeypatch: pytest.MonkeyPatch, bug: str) -> None:
    """A third of all entries is refused."""
    plant(bug, monkeypatch.setattr)
    bench.change(120)
    with proxied(bench), producing(bench.settings):
        bench.proxy.faults = Faults(reject=0.3)
        bench.caught_up()
    findings = check(bench.evidence())
    assert laws(findings) == ({3} if bug else set()), findings[:5]


@pytest.fixture(scope="module")
def filled(
    cluster: Cluster, local_aws: Cloud, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Bench, Evidence, Mapping[str, Sequence[RawRecord]]]]:
    """A stream that is as it should be, for bugs of satellites."""
    with opened_bench(cluster, local_aws, tmp_path_factory.mktemp("planted")) as made:
        made.change(120)
        with producing(made.settings):
            made.caught_up()
        evidence = made.evidence()
        assert not check(evidence)
        yield made, evidence, records(made.settings.stream)


Filled = tuple[Bench, Evidence, Mapping[str, Sequence[RawRecord]]]


def judged(filled: Filled, folder: Path, driven: Driven, again: bool = False) -> Sequence[Finding]:
    """What the checker says of a satellite that got the whole stream; then `again` an older part of it."""
    _, evidence, found = filled
    for shard, some in found.items():
        driven.deliver(shard, some)
    for shard, some in found.items() if again else ():
        driven.deliver(shard, some[: len(some) // 2])
    reports = read_reports(folder, driven.name)
    held = satellite(driven.settings, driven.name, lambda: Lsn(1), reports)
    return check(replace(evidence, satellites=[held]))


def driven(filled: Filled, folder: Path, name: str, **how: Any) -> Driven:
    return Driven(replace(filled[0].settings, data=str(folder)), name, **how)


@pytest.mark.parametrize("bug", [NOTHING, "checkpoints-early"])
def test_law_2_checkpoint_late(filled: Filled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bug: str) -> None:
    """Killed between a batch and its flush: what was not flushed must come again."""
    plant(bug, monkeypatch.setattr)
    findings = judged(filled, tmp_path, driven(filled, tmp_path, "parquet", kills=0.2, flush_seconds=3600))
    assert laws(findings) == ({2, 5} if bug else set()), findings[:5]


@pytest.mark.parametrize("bug", [NOTHING, "goes-on-after-errors"])
def test_law_4_no_silent_skip(filled: Filled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bug: str) -> None:
    """Errors that nobody expected, in one batch of ten."""
    plant(bug, monkeypatch.setattr)
    findings = judged(filled, tmp_path, driven(filled, tmp_path, "audit", failures=0.1))
    assert {finding.kind for finding in findings} == ({"lost", "wrong"} if bug else set()), findings[:5]


@pytest.mark.parametrize(
    ("name", "bug"),
    [
        ("parquet", NOTHING), ("parquet", "appends-again"), ("search", NOTHING), ("search", "takes-what-is-older"),
    ],
)  # fmt: skip
def test_law_5_highest_position_wins(
    filled: Filled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, bug: str
) -> None:
    """Kills without a checkpoint, and then the older half of each shard comes again."""
    plant(bug, monkeypatch.setattr)
    how = driven(filled, tmp_path, name, kills=0.2, checkpoint_seconds=3600)
    findings = judged(filled, tmp_path, how, again=True)
    kind = {"appends-again": {"duplicated"}, "takes-what-is-older": {"wrong"}}
    assert {finding.kind for finding in findings} == kind.get(bug, set()), findings[:5]


@pytest.mark.skipif(not scale(0, 1), reason="a whole run: make chaos")
@pytest.mark.timeout(1200)
def test_a_whole_run_with_a_bug_is_found_out(resharding_aws: ReshardingCloud, tmp_path: Path) -> None:
    plan = Plan(5, 60.0, tmp_path / "run", plant="acknowledges-early")
    findings = run(plan, Timeline(), resharding_aws).findings
    assert 1 in laws(findings)
