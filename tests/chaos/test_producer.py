"""The producer under faults: nothing lost, no key's changes swapped, nothing acknowledged early."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks.producer_peers import stub
from cdckit.aggregation import unpack
from cdckit.envelope import decode
from tests.support.fault_proxy import FaultProxy, Faults
from tests.support.figures import say
from tests.support.kill_audit import StreamKeys, assert_covers, nothing_is_missing, overlapping_writes
from tests.support.local_aws import Cloud
from tests.support.postgres import Database
from tests.support.producer_runs import caught_up, confirmed, producing, settings_for, slot_is_active
from tests.support.resharding_aws import ReshardingCloud
from tests.support.scale import scale
from tests.support.seed import seed
from tests.support.stream_audit import StreamAudit, audit_stream
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(3600)]

KEYS = 1000
CHANGES = scale(20_000, 200_000)
RESHARDED, ROUNDS = scale(6_000, 10_000), scale(1, 20)  # kinesis-local slows with the square of what a stream holds
WAYS = pytest.mark.parametrize("aggregate", ["no", "yes"], ids=["plain", "aggregated"])


def hot_keys(postgres: Database, changes: int) -> None:
    """Each of the keys is inserted and then updated again and again; most transactions touch many keys."""
    chance = random.Random(seed(5))
    postgres.run(f"INSERT INTO hot SELECT i, 0, repeat('x', 100) FROM generate_series(1, {KEYS}) i")
    for number in range(1, changes // KEYS):
        cuts = sorted({0, KEYS, *(chance.randrange(KEYS) for _ in range(4))})
        for low, high in pairwise(cuts):
            postgres.run(f"UPDATE hot SET n = {number} WHERE id > {low} AND id <= {high}")


def must_be_whole(found: StreamAudit, changes: int) -> None:
    expected = list(range(changes // KEYS))
    values = found.values("n")
    assert len(values) == KEYS
    wrong = {key: seen for key, seen in values.items() if seen != expected}
    assert not wrong, f"lost or swapped: {list(wrong.items())[:3]}"
    assert found.inversions == 0
    assert len(found.positions) == changes // KEYS * KEYS


@WAYS
def test_refused_entries_and_dropped_connections(
    postgres: Database, cloud: Cloud, stream: str, monkeypatch: pytest.MonkeyPatch, aggregate: str
) -> None:
    """Law 3 and law 1: a fifth of all entries refused at random, connections dropped, some answers lost."""
    settings = settings_for(postgres, stream, aggregate)
    hot_keys(postgres, CHANGES)
    with FaultProxy(cloud.url, seed=11) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_KINESIS", proxy.url)
        proxy.faults = Faults(reject=0.2, drop=0.12, throttle=0.02, error=0.02, delay=0.02)
        with producing(settings) as results:
            caught_up(postgres, 1800)
        counts = dict(proxy.counts)
    monkeypatch.delenv("AWS_ENDPOINT_URL_KINESIS")
    found = audit_stream(stream)
    say(f"{aggregate=} {counts} {results} changes={len(found.positions)} repeated={found.repeated}")
    must_be_whole(found, CHANGES)
    assert counts["rejected"] > 0
    assert counts["dropped"] > 0


@WAYS
@pytest.mark.parametrize("turn", range(ROUNDS))
def test_a_split_and_a_merge_under_refused_entries(
    postgres: Database, resharding: ReshardingCloud, monkeypatch: pytest.MonkeyPatch, aggregate: str, turn: int
) -> None:
    """The same while the stream is split and merged: no record lands in a shard whose consumer would drop it."""
    stream = resharding.make_stream()
    settings = settings_for(postgres, stream, aggregate)
    with FaultProxy(resharding.kinesis, seed=12 + turn) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_KINESIS", proxy.url)
        proxy.faults = Faults(reject=0.2, drop=0.03)
        with producing(settings) as results:
            third = RESHARDED // 3 // KEYS * KEYS
            hot_keys(postgres, third)
            resharding.split(stream, 1)
            more(postgres, third // KEYS, 2 * third // KEYS)
            resharding.merge(stream, 0)
            more(postgres, 2 * third // KEYS, RESHARDED // KEYS)
            caught_up(postgres, 3000)
        counts = dict(proxy.counts)
    found = audit_stream(stream, resharding.client("kinesis"))
    say(f"{aggregate=} {counts} {results} changes={len(found.positions)} repeated={found.repeated}")
    must_be_whole(found, RESHARDED)
    if aggregate == "yes":
        assert_in_their_shards(resharding, stream)
    resharding.client("kinesis").delete_stream(StreamName=stream)


def more(postgres: Database, first: int, last: int) -> None:
    for number in range(first, last):
        postgres.run(f"UPDATE hot SET n = {number}")


def assert_in_their_shards(resharding: ReshardingCloud, stream: str) -> None:
    """What the KCL would keep, dropping each aggregated record with a stray inside, is still everything."""
    client, kept = resharding.client("kinesis"), set()
    for shard in client.list_shards(StreamName=stream)["Shards"]:
        low, high = (int(shard["HashKeyRange"][edge]) for edge in ("StartingHashKey", "EndingHashKey"))
        iterator = client.get_shard_iterator(
            StreamName=stream, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        while iterator:
            answer = client.get_records(ShardIterator=iterator, Limit=10_000)
            for record in answer["Records"]:
                inside = unpack(record["Data"], record["PartitionKey"])
                places = [int.from_bytes(hashlib.md5(one.partition_key.encode()).digest()) for one in inside]
                if all(low <= place <= high for place in places):
                    kept |= {decode(one.data).position for one in inside}
            iterator = answer.get("NextShardIterator") if answer["Records"] or answer["MillisBehindLatest"] else None
    assert len(kept) == RESHARDED // KEYS * KEYS


def test_killed_at_random_moments_it_loses_nothing_and_acknowledges_nothing_early(
    postgres: Database, cloud: Cloud, stream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Law 1: SIGKILL, stalls, keepalives, overlapping transactions; at every kill the slot is asked how far it is."""
    chosen = seed()
    chance, kills = random.Random(chosen), scale(10, 100)
    settings = settings_for(postgres, stream, "no")
    with FaultProxy(cloud.url, seed=chosen) as proxy:
        environ = {
            **os.environ, "AWS_ENDPOINT_URL_KINESIS": proxy.url, "CDC_DSN": postgres.dsn, "CDC_SLOT": postgres.slot,
            "CDC_STREAM": stream, "CDC_CONFIG": os.devnull,
        }  # fmt: skip
        keys = StreamKeys(stream)
        with overlapping_writes(postgres, chosen) as committed:
            for number in range(kills):
                environ["CDC_AGGREGATE"] = "yes" if number % 2 else "no"
                with started(environ) as process:
                    proxy.faults = Faults(reject=0.1, drop=0.05, stalled=chance.random() < 0.3)
                    wait_until_active(postgres, process)
                    time.sleep(chance.uniform(0.0, 1.0))
                    force_keepalives(postgres)
                    time.sleep(chance.uniform(0.0, 0.3))
                    process.send_signal(signal.SIGKILL)
                    process.wait()
                    at = confirmed(postgres)
                proxy.faults = Faults()
                assert_covers(postgres, keys.read(), at)
    with producing(settings):
        caught_up(postgres, 120)
    nothing_is_missing(stream, committed, kills)


def force_keepalives(postgres: Database) -> None:
    for _ in range(3):
        postgres.run("SELECT pg_logical_emit_message(false, 'noise', repeat('x', 9000))")


@contextmanager
def started(environ: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "cdcctl.main", "producer", "run"]
    with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_until_active(postgres: Database, process: subprocess.Popen[bytes]) -> None:
    def is_active() -> bool:
        assert process.poll() is None, process.communicate()[1]
        return slot_is_active(postgres)

    wait_until(is_active, 120, "the producer reads the slot", 0.05)


def test_a_stream_that_stalls_and_goes_away_takes_no_memory(postgres: Database, cloud: Cloud) -> None:
    """Law 4 of the issue: a transaction of very many rows, and a stream that accepts nothing, in bounded memory.

    The stream is a stub that only counts: every local AWS slows as it stores more.
    """
    small, large = scale(100_000, 2_000_000), scale(400, 1_000)
    settings = settings_for(postgres, "bench", "no")
    with ExitStack() as ends:
        kinesis = ends.enter_context(stub())
        environ = {
            **os.environ, "AWS_ENDPOINT_URL_KINESIS": f"http://127.0.0.1:{kinesis.port}", "CDC_DSN": settings.dsn,
            "CDC_SLOT": settings.slot, "CDC_STREAM": settings.stream, "CDC_CONFIG": os.devnull,
        }  # fmt: skip
        process = ends.enter_context(started(environ))
        wait_until_active(postgres, process)
        os.kill(kinesis.pid, signal.SIGSTOP)
        postgres.run(
            f"INSERT INTO hot SELECT -i, 0, repeat('x', 900000) FROM generate_series(1, {large}) i",
            f"INSERT INTO hot SELECT i, 0, repeat('x', 300) FROM generate_series(1, {small}) i",
        )
        time.sleep(scale(4, 30))
        stalled = peak(process.pid)
        kinesis.close()
        time.sleep(scale(3, 180))
        with stub(port=kinesis.port) as back:
            caught_up(postgres, 1800, process)
            accepted, whole = back.get("count"), peak(process.pid)
            process.terminate()
            assert process.wait(15) == 0
    say(f"{small} rows and {large} of 900 kB: peak RSS {stalled} MB stalled, {whole} MB at the end")
    assert accepted >= small + large
    assert whole < 320, "four requests of 5 MiB in flight, and what waits, in several forms; all rows would be more"


def peak(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.split("VmHWM:")[1].split()[0]) // 1024
