"""The producer on real PostgreSQL: every change reaches the stream in order, none is acknowledged early."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
import psycopg2
import pytest
from pybase64 import b64decode

from cdckit.aggregation import unpack
from cdckit.change import Change, Op
from cdckit.envelope import decode
from cdckit.errors import RecordTooLarge, SlotInUse, SlotLost, SourceError
from cdckit.position import Lsn
from cdckit.runtime.settings import Settings
from producer.decoding.router import Router
from producer.kinesis.batching.aggregated import AggregatedBatcher
from producer.kinesis.batching.per_key import PerKeyBatcher
from producer.kinesis.batching.protocol import Batcher
from producer.kinesis.limits import StreamLimits
from producer.kinesis.publisher import Publisher
from producer.kinesis.put_records import EntryResult, RequestFailed
from producer.kinesis.shard_map import Shard, ShardMap
from producer.kinesis.stream import Stream, kinesis_client
from producer.kinesis.target import Target
from producer.postgres.replication_slot import SlotReader
from producer.preflight import prepare
from producer.records import Origin
from producer.relay import Relay
from producer.service import run
from tests.support.local_aws import Cloud
from tests.support.postgres import Database

pytestmark = pytest.mark.integration
MakeBatcher = Callable[[ShardMap, StreamLimits], Batcher]
QUOTED = '"Ünïcode ""quoted"""'
ORIGIN = Origin("main", 1, "1", 1, "slot")


class StubKinesis:
    """Answers PutRecords as planned: accepts, refuses single entries, fails whole requests, or stalls."""

    def __init__(self, shards: int = 2) -> None:
        self.accepted: list[Change] = []
        self.stalled = threading.Event()
        self.refuse: Callable[[int], bool] = lambda number: False
        self.fail: Callable[[int], bool] = lambda number: False
        self.calls = 0
        self.shards = ShardMap(Shard(f"shard-{n}", n * 2**128 // shards) for n in range(shards))
        self._lock = threading.Lock()
        self._entries = 0

    def target(self, bounds: StreamLimits | None = None) -> Target:
        return Target("stub", self, lambda: self.shards, bounds or StreamLimits())

    def __call__(self, entries: bytes, count: int) -> Sequence[EntryResult]:
        while self.stalled.is_set():
            time.sleep(0.01)
        with self._lock:
            self.calls += 1
            if self.fail(self.calls):
                raise RequestFailed("ConnectionClosedError", "as planned")
            records = msgspec.json.decode(b"[%b]" % entries)
            assert len(records) == count
            keys = [record["PartitionKey"] + record.get("ExplicitHashKey", "") for record in records]
            assert len(keys) == len(set(keys)), "two records of one key in one request"
            return [self._answer(record) for record in records]

    def _answer(self, record: Mapping[str, Any]) -> EntryResult:
        self._entries += 1
        if self.refuse(self._entries):
            return EntryResult(code="ProvisionedThroughputExceededException")
        inside = unpack(b64decode(record["Data"]), record["PartitionKey"])
        self.accepted += [decode(one.data) for one in inside]
        place = int(record["ExplicitHashKey"]) if "ExplicitHashKey" in record else None
        shards = self.shards.shards
        if place is None:
            return EntryResult(shard=self.shards.of(record["PartitionKey"]).id)
        return EntryResult(shard=[shard for shard in shards if shard.low <= place][-1].id)


@contextmanager
def relaying(
    postgres: Database, stub: StubKinesis, make_batcher: MakeBatcher = PerKeyBatcher, prefixes: Sequence[str] = ()
) -> Iterator[Relay]:
    """Run a relay in a thread, from the database's slot to the stub."""
    reader = SlotReader(postgres.dsn, postgres.slot)
    target = stub.target()
    publisher = Publisher(target, target.batcher(make_batcher))
    relay, stopping = Relay(reader, Router(ORIGIN, None, prefixes), publisher), threading.Event()
    thread = threading.Thread(target=relay.run, args=(stopping.is_set,))
    thread.start()
    try:
        yield relay
    finally:
        stub.stalled.clear()
        stopping.set()
        thread.join()
        reader.close()
        publisher.close()


def wait_for(condition: Any, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)


def confirmed(postgres: Database) -> Lsn:
    query = "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = "
    [(lsn,)] = postgres.query(f"{query}'{postgres.slot}'")
    return Lsn.parse(lsn)


def with_slot(postgres: Database) -> None:
    postgres.run("CREATE TABLE orders (id integer PRIMARY KEY, note text)")
    postgres.run(f"SELECT pg_create_logical_replication_slot('{postgres.slot}', 'wal2json')")


@pytest.mark.parametrize("make_lanes", [PerKeyBatcher, AggregatedBatcher])
def test_every_change_of_hot_keys_in_order_though_entries_are_refused(
    postgres: Database, make_batcher: MakeBatcher
) -> None:
    with_slot(postgres)
    stub = StubKinesis()
    stub.refuse = lambda number: number % 5 == 0
    stub.fail = lambda number: number % 11 == 0
    postgres.run("INSERT INTO orders SELECT i, '0' FROM generate_series(0, 49) i")
    for number in range(1, 41):
        postgres.run(f"UPDATE orders SET note = '{number}'")
    with relaying(postgres, stub, make_batcher) as relay:
        wait_for(lambda: relay.changes == 50 * 41 and len(stub.accepted) == 50 * 41, 60)
    notes: dict[Any, list[Any]] = defaultdict(list)
    for change in stub.accepted:
        assert change.after is not None
        notes[change.key["id"]].append(change.after["note"])
    assert len(notes) == 50
    assert all(seen == [str(number) for number in range(41)] for seen in notes.values())


def test_nothing_is_acknowledged_while_the_stream_stalls_even_across_keepalives(postgres: Database) -> None:
    """Overlapping transactions, an acknowledged one between, keepalives: psycopg2 alone would lose changes here."""
    with_slot(postgres)
    stub = StubKinesis()
    overlapping = psycopg2.connect(postgres.dsn)
    with overlapping.cursor() as cursor:
        cursor.execute("INSERT INTO orders VALUES (1, 'began first')")
        with relaying(postgres, stub):
            postgres.run("INSERT INTO orders VALUES (2, 'commits first')")
            wait_for(lambda: len(stub.accepted) == 1)
            acknowledged = Lsn.parse(postgres.query("SELECT pg_current_wal_lsn()")[0][0])
            wait_for(lambda: confirmed(postgres) >= acknowledged)
            stub.stalled.set()
            overlapping.commit()
            [(committed,)] = postgres.query("SELECT pg_current_wal_lsn()")
            for _ in range(12):  # other WAL makes the server send keepalives, some asking for a reply
                postgres.run("SELECT pg_logical_emit_message(false, 'noise', repeat('x', 9000))")
                time.sleep(0.2)
                assert confirmed(postgres) < Lsn.parse(committed)
            assert len(stub.accepted) == 1
            stub.stalled.clear()
            wait_for(lambda: len(stub.accepted) == 2)
            wait_for(lambda: confirmed(postgres) >= Lsn.parse(committed))
    overlapping.close()


def test_what_was_not_accepted_comes_again_to_the_next_producer(postgres: Database) -> None:
    with_slot(postgres)
    dead, alive = StubKinesis(), StubKinesis()
    dead.fail = lambda number: True
    postgres.run("INSERT INTO orders SELECT i, 'x' FROM generate_series(1, 100) i")
    reader = SlotReader(postgres.dsn, postgres.slot)
    publisher = Publisher(dead.target())
    deadline = time.monotonic() + 1
    Relay(reader, Router(ORIGIN), publisher).run(lambda: time.monotonic() > deadline)
    reader.close()
    publisher.close()
    with relaying(postgres, alive):
        wait_for(lambda: len(alive.accepted) == 100)
    assert {change.key["id"] for change in alive.accepted} == set(range(1, 101))


def test_an_idle_slot_advances_past_another_databases_writes(postgres: Database) -> None:
    with_slot(postgres)
    with relaying(postgres, StubKinesis()):
        other = psycopg2.connect(postgres.cluster.dsn)
        other.autocommit = True
        with other.cursor() as cursor:
            cursor.execute("CREATE TABLE IF NOT EXISTS noise AS SELECT repeat('x', 1000) FROM generate_series(1, 5000)")
            cursor.execute("DROP TABLE noise")
        other.close()
        [(end,)] = postgres.query("SELECT pg_current_wal_lsn()")
        wait_for(lambda: confirmed(postgres) >= Lsn.parse(end))


def test_every_kind_of_change_arrives(postgres: Database) -> None:
    with_slot(postgres)
    postgres.run(f"CREATE TABLE {QUOTED} (a text, b integer, PRIMARY KEY (a, b))", "CREATE TABLE keyless (x integer)")
    stub = StubKinesis()
    postgres.run("ALTER TABLE orders ALTER COLUMN note SET STORAGE EXTERNAL")
    postgres.run("INSERT INTO orders VALUES (1, repeat('large ', 5000))")
    postgres.run("UPDATE orders SET id = 1")
    postgres.run("UPDATE orders SET id = 2, note = 'short'")
    postgres.run(f"INSERT INTO {QUOTED} VALUES ('é', 1)", "INSERT INTO keyless VALUES (7)")
    postgres.run(
        "SELECT pg_logical_emit_message(true, 'cdc.annotation', '{\"actor\": \"alice\"}')",
        "DELETE FROM orders",
        "TRUNCATE orders",
    )
    with relaying(postgres, stub):
        wait_for(lambda: len(stub.accepted) == 9)
    by_position = sorted(stub.accepted, key=lambda change: change.position)
    assert [change.op.value for change in by_position] == ["I", "U", "D", "I", "I", "I", "D", "T", "T"]
    update, gone, come, unicode, keyless, delete, truncate, again = by_position[1:]
    assert update.after == {"id": 1}, "an unchanged large value is absent"
    assert (gone.key, come.key, come.after) == ({"id": 1}, {"id": 2}, {"id": 2, "note": "short"})
    assert come.position.index == gone.position.index + 1
    assert unicode.key == {"a": "é", "b": 1}
    assert str(unicode.table) == f"public.{QUOTED}"
    assert keyless.key == {"x": 7}
    assert delete.annotation == truncate.annotation == {"actor": "alice"}
    assert truncate.op is again.op is Op.TRUNCATE
    assert truncate.position == again.position, "a truncate on two shards is one position"


def test_a_second_producer_is_refused_by_name(postgres: Database) -> None:
    with_slot(postgres)
    with relaying(postgres, StubKinesis()), pytest.raises(SlotInUse, match="is active for PID") as raised:
        SlotReader(postgres.dsn, postgres.slot)
    assert "only one producer" in raised.value.hint


NOISE = "(SELECT string_agg(md5(i::text), '') FROM generate_series(1, {}) i)"


@pytest.mark.parametrize("make_lanes", [PerKeyBatcher, AggregatedBatcher])
def test_a_change_over_the_record_limit_is_compressed(postgres: Database, make_batcher: MakeBatcher) -> None:
    with_slot(postgres)
    stub = StubKinesis()
    postgres.run("INSERT INTO orders VALUES (1, repeat('x', 1100000)), (2, 'small')", "DELETE FROM orders")
    with relaying(postgres, stub, make_batcher):
        wait_for(lambda: len(stub.accepted) == 4)
    [large] = [one for one in stub.accepted if one.key == {"id": 1} and one.op is Op.INSERT]
    assert large.after == {"id": 1, "note": "x" * 1100000}


def test_a_change_that_stays_too_large_stops_with_its_name(postgres: Database) -> None:
    with_slot(postgres)
    postgres.run(f"INSERT INTO orders VALUES (1, {NOISE.format(60000)})")
    reader = SlotReader(postgres.dsn, postgres.slot)
    publisher = Publisher(StubKinesis().target())
    with pytest.raises(
        RecordTooLarge, match=r"main/public\.orders/\[1\] has 1,920,\d\d\d bytes, compressed 1,"
    ) as raised:
        Relay(reader, Router(ORIGIN), publisher).run(lambda: False)
    assert "--exclude-table public.orders" in raised.value.hint
    reader.close()
    publisher.close()
    assert confirmed(postgres) < Lsn.parse(postgres.query("SELECT pg_current_wal_lsn()")[0][0])
    larger = StubKinesis()
    roomy = Publisher(larger.target(StreamLimits(10 * 1024 * 1024, 10 * 1024 * 1024)))
    reader = SlotReader(postgres.dsn, postgres.slot)
    Relay(reader, Router(ORIGIN), roomy).run(lambda: len(larger.accepted) == 1)
    reader.close()
    roomy.close()


@pytest.mark.parametrize("make_lanes", [PerKeyBatcher, AggregatedBatcher])
def test_a_split_and_a_merge_while_running_lose_nothing(postgres: Database, make_batcher: MakeBatcher) -> None:
    """The stub's shards change while the producer runs: misrouted entries are resent, truncates reach every shard."""
    with_slot(postgres)
    stub = StubKinesis(2)
    postgres.run("INSERT INTO orders SELECT i, '0' FROM generate_series(1, 300) i")
    with relaying(postgres, stub, make_batcher) as relay:
        for number, shards in enumerate((5, 1, 3), 1):
            stub.shards = ShardMap(Shard(f"{number}-{n}", n * 2**128 // shards) for n in range(shards))
            postgres.run(
                f"UPDATE orders SET note = '{number}'",
                "TRUNCATE orders",
                f"INSERT INTO orders SELECT i, '{number}' FROM generate_series(1, 300) i",
            )
            wait_for(lambda number=number: relay.changes == 300 + number * 601)
            wait_for(lambda: not relay.pending)
    seen: dict[Any, list[Any]] = defaultdict(list)
    for change in stub.accepted:
        if change.position not in [position for position, _ in seen[change.row_id]]:
            seen[change.row_id].append((change.position, change))
    assert len({change.position for change in stub.accepted}) == 300 + 3 * 601
    assert all([p for p, _ in history] == sorted(p for p, _ in history) for history in seen.values())
    truncates = [change.position for change in stub.accepted if change.op is Op.TRUNCATE]
    last = max(truncates)
    assert truncates.count(last) >= 3


def test_messages_of_a_published_prefix_are_records(postgres: Database) -> None:
    with_slot(postgres)
    stub = StubKinesis()
    postgres.run(
        "INSERT INTO orders VALUES (1, 'x')",
        "SELECT pg_logical_emit_message(true, 'outbox', '{\"key\": 7}')",
        "SELECT pg_logical_emit_message(true, 'not asked for', 'x')",
    )
    postgres.run("SELECT pg_logical_emit_message(false, 'outbox', 'outside')")
    with relaying(postgres, stub, prefixes=["outbox"]):
        wait_for(lambda: len(stub.accepted) == 3)
        end = Lsn.parse(postgres.query("SELECT pg_current_wal_lsn()")[0][0])
        wait_for(lambda: confirmed(postgres) >= end)
    inside, outside = [change for change in stub.accepted if change.table.schema == "pg_logical_message"]
    assert inside.after is not None
    assert (inside.after["content"], inside.position.index) == ('{"key": 7}', 1)
    assert outside.after is not None
    assert (outside.after["content"], outside.after["transactional"]) == ("outside", False)


def test_the_stream_remembers_its_server_and_slot(postgres: Database, cloud: Cloud, stream: str) -> None:
    settings = Settings(dsn=postgres.dsn, slot=postgres.slot, stream=stream)
    first = prepare(settings, Stream(kinesis_client(), stream))
    assert first.epoch == 1
    assert prepare(settings, Stream(kinesis_client(), stream)) == first
    postgres.run(f"SELECT pg_drop_replication_slot('{postgres.slot}')")
    with pytest.raises(SlotLost, match="does not exist") as raised:
        prepare(settings, Stream(kinesis_client(), stream))
    assert "--new-epoch" in raised.value.hint
    assert prepare(settings, Stream(kinesis_client(), stream), new_epoch=True).epoch == 2


def test_it_goes_on_when_postgresql_comes_back(own_cluster: Any, cloud: Cloud, stream: str) -> None:
    settings, stopping = Settings(dsn=own_cluster.dsn, stream=stream), threading.Event()
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(run(settings, stopping.is_set)))
    thread.start()
    database = Database(own_cluster.dsn, "cdc", own_cluster)
    wait_for(lambda: database.query("SELECT 1 FROM pg_replication_slots WHERE active"))
    database.run("CREATE TABLE orders (id integer PRIMARY KEY)", "INSERT INTO orders VALUES (1)")
    own_cluster.stop("immediate")
    time.sleep(0.3)
    own_cluster.start()
    database.run("INSERT INTO orders VALUES (2)")
    wait_for(lambda: database.query("SELECT 1 FROM pg_replication_slots WHERE active"))
    wait_for(lambda: confirmed(database) >= Lsn.parse(database.query("SELECT pg_current_wal_lsn()")[0][0]))
    stopping.set()
    thread.join()
    assert results
    assert results[0].changes >= 2


@pytest.mark.parametrize(
    ("dsn", "said"),
    [
        ("postgresql://cdc:wrong@127.0.0.1:{port}/shop", "password authentication failed"),
        ("postgresql://cdc:x@127.0.0.1:1/shop", "Connection refused"),
        ("nonsense", "cannot be used"),
    ],
)
def test_a_server_that_cannot_be_used_is_named_without_its_password(cluster: Any, dsn: str, said: str) -> None:
    with pytest.raises(SourceError, match=said) as raised:
        SlotReader(dsn.format(port=cluster.port), "cdc")
    assert "wrong" not in raised.value.message
    assert raised.value.hint
