"""The producer under faults: nothing lost, no key's changes swapped, nothing acknowledged early."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from benchmarks.producer_peers import stub
from cdckit.aggregation import unpack
from cdckit.envelope import decode
from cdckit.position import Lsn
from cdckit.runtime.settings import Settings
from consumers.stream.reader import StreamReader
from consumers.stream.start import EARLIEST
from producer.service import Result, run
from tests.support.fault_proxy import FaultProxy, Faults
from tests.support.local_aws import Cloud
from tests.support.postgres import Database
from tests.support.resharding_aws import ReshardingCloud
from tests.support.scale import scale
from tests.support.stream_audit import StreamAudit, audit_stream

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(3600)]

KEYS = 1000
CHANGES = scale(20_000, 200_000)
RESHARDED, ROUNDS = scale(6_000, 10_000), scale(1, 20)  # kinesis-local slows with the square of what a stream holds
WAYS = pytest.mark.parametrize("aggregate", ["no", "yes"], ids=["plain", "aggregated"])


@contextmanager
def producing(settings: Settings) -> Iterator[list[Result]]:
    stopping, results = threading.Event(), list[Result]()
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(run(settings, stopping.is_set))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield results
    finally:
        stopping.set()
        thread.join()
    assert not errors, errors


def settings_for(postgres: Database, stream: str, aggregate: str) -> Settings:
    postgres.run("CREATE TABLE hot (id integer PRIMARY KEY, n integer, note text)")
    postgres.run(f"SELECT pg_create_logical_replication_slot('{postgres.slot}', 'wal2json')")
    return Settings(dsn=postgres.dsn, slot=postgres.slot, stream=stream, aggregate=aggregate)


def hot_keys(postgres: Database, changes: int) -> None:
    """Each of the keys is inserted and then updated again and again; most transactions touch many keys."""
    chance = random.Random(5)
    postgres.run(f"INSERT INTO hot SELECT i, 0, repeat('x', 100) FROM generate_series(1, {KEYS}) i")
    for number in range(1, changes // KEYS):
        cuts = sorted({0, KEYS, *(chance.randrange(KEYS) for _ in range(4))})
        for low, high in pairwise(cuts):
            postgres.run(f"UPDATE hot SET n = {number} WHERE id > {low} AND id <= {high}")


def caught_up(postgres: Database, seconds: float, producer: subprocess.Popen[bytes] | None = None) -> None:
    [(end,)] = postgres.query("SELECT pg_current_wal_lsn()")
    deadline = time.monotonic() + seconds
    while confirmed(postgres) < Lsn.parse(end):
        assert time.monotonic() < deadline, f"{confirmed(postgres)} is still before {end}"
        assert producer is None or producer.poll() is None, "the producer ended"
        time.sleep(0.2)


def confirmed(postgres: Database) -> Lsn:
    query = f"SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = '{postgres.slot}'"
    return Lsn.parse(postgres.query(query)[0][0])


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
    seed = int(os.environ.get("CDC_SEED") or time.time_ns() % 1_000_000)
    say(f"CDC_SEED={seed}")
    chance, kills = random.Random(seed), scale(10, 100)
    settings = settings_for(postgres, stream, "no")
    with FaultProxy(cloud.url, seed=seed) as proxy:
        environ = {
            **os.environ, "AWS_ENDPOINT_URL_KINESIS": proxy.url, "CDC_DSN": postgres.dsn, "CDC_SLOT": postgres.slot,
            "CDC_STREAM": stream, "CDC_CONFIG": os.devnull,
        }  # fmt: skip
        held = Held(stream)
        with overlapping_writes(postgres, seed) as committed:
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
                assert_covers(postgres, held.look(), at)
    with producing(settings):
        caught_up(postgres, 120)
    nothing_is_missing(stream, committed, kills)


@contextmanager
def overlapping_writes(postgres: Database, seed: int) -> Iterator[list[int]]:
    """Writes while the block runs; the list is the keys that were committed."""
    committed: list[int] = []
    ended = threading.Event()
    writer = threading.Thread(target=write_overlapping, args=(postgres, committed, ended, seed))
    writer.start()
    try:
        yield committed
    finally:
        ended.set()
        writer.join()


def nothing_is_missing(stream: str, committed: list[int], kills: int) -> None:
    found = audit_stream(stream)
    seen = {change.key["id"] for changes in found.by_key.values() for change in changes}
    missing = set(committed) - seen
    say(f"{kills} kills, {len(committed)} changes committed, {len(missing)} missing, {found.repeated} repeated")
    assert not missing
    assert found.inversions == 0


def write_overlapping(postgres: Database, committed: list[int], ended: threading.Event, seed: int) -> None:
    """Two connections whose transactions overlap: one begins first and commits last."""
    chance, number = random.Random(seed), 0
    one, other = psycopg2.connect(postgres.dsn), psycopg2.connect(postgres.dsn)
    while not ended.is_set():
        with one.cursor() as first, other.cursor() as second:
            first.execute("INSERT INTO hot VALUES (%s, 0, 'began first')", (number,))
            second.execute("INSERT INTO hot VALUES (%s, 0, 'commits first')", (number + 1,))
            other.commit()
            committed.append(number + 1)
            time.sleep(chance.uniform(0, 0.02))
            first.execute("INSERT INTO hot SELECT i, 0, 'run' FROM generate_series(%s, %s) i", (number + 2, number + 9))
        one.commit()
        committed += [number, *range(number + 2, number + 10)]
        number += 10
    one.close()
    other.close()


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
    deadline = time.monotonic() + 120
    while not postgres.query(f"SELECT 1 FROM pg_replication_slots WHERE slot_name = '{postgres.slot}' AND active"):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline, "the producer does not stream"
        time.sleep(0.05)


class Held:
    """The keys of the rows that the stream holds; each look reads on from the one before."""

    def __init__(self, stream: str) -> None:
        self._reader = StreamReader(stream, EARLIEST, stop_when_caught_up=True)
        self._keys: set[Any] = set()

    def look(self) -> set[Any]:
        for page in self._reader.pages():
            self._keys.update(change.key["id"] for change in map(decode, (one.data for one in page.records)))
        return self._keys


def assert_covers(postgres: Database, held: set[Any], confirmed_at: Lsn) -> None:
    """Every committed row is in the stream, or still in the slot: what was acknowledged had been accepted."""
    known = {number for (number,) in postgres.query("SELECT id FROM hot")}  # read before the slot is
    while postgres.query(f"SELECT 1 FROM pg_replication_slots WHERE slot_name = '{postgres.slot}' AND active"):
        time.sleep(0.05)
    query = f"SELECT data FROM pg_logical_slot_peek_changes('{postgres.slot}', NULL, NULL, 'format-version', '2')"
    waiting = {row_id(data) for (data,) in postgres.query(query) if '"action":"I"' in data}
    lost = known - held - waiting
    assert not lost, f"acknowledged up to {confirmed_at}, but not in the stream: {sorted(lost)[:10]}"


def row_id(data: str) -> Any:
    return next(column["value"] for column in json.loads(data)["columns"] if column["name"] == "id")


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


def say(text: str) -> None:
    """Print figures; pytest shows them with -s."""
    sys.stderr.write(f"\n{text}\n")


def peak(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.split("VmHWM:")[1].split()[0]) // 1024
