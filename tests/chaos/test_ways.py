"""Aggregated records, graceful lease handoff and long pages, which the other tests do not cover."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cdcctl.demo.child_processes import ChildProcesses
from cdcctl.sandbox.processes import start_time
from consumers.kcl.leases import LeaseTable
from consumers.kcl.properties import read_file
from consumers.worker.status import read_reports
from tests.chaos.ledger_sink import FILE, POISON
from tests.chaos.test_kit import Feed, covered, happens, reading, rows, seen, wait_until
from tests.support.histories import entry, folded
from tests.support.kcl_parts import parts_in
from tests.support.postgres import Database
from tests.support.processes import descendants, kill
from tests.support.resharding_aws import ReshardingCloud
from tests.support.scale import scale
from tests.support.stream_audit import audit_stream

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(scale(480, 1200))]
TRANSACTIONS, KILLS = scale(60, 600), scale(1, 20)


@pytest.fixture
def parts(tmp_path: Path, resharding: ReshardingCloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[ChildProcesses]:
    with parts_in(tmp_path, resharding, monkeypatch, PYTHONPATH=str(Path(__file__).parents[2])) as made:
        yield made


def consume(parts: ChildProcesses, stream: str, *more: str, folder: Path | None = None) -> None:
    parts.start(f"ledger{len(parts.running)}", [
        "consumer", "run", "ledger", "--sink", "tests.chaos.ledger_sink:open_sink", "--stream", stream,
        "--app-prefix", stream, *more,
    ], folder)  # fmt: skip


def test_aggregated_records_go_through_the_kcl_whole(
    tmp_path: Path, resharding: ReshardingCloud, parts: ChildProcesses, postgres: Database
) -> None:
    """The KCL unpacks the records of `--aggregate`: none is dropped, though a shard splits and children are killed."""
    stream = resharding.make_stream()
    postgres.run("CREATE TABLE ledger (id integer PRIMARY KEY, value text)")
    parts.start("producer", [
        "producer", "run", "--aggregate", "--dsn", postgres.dsn, "--slot", postgres.slot, "--stream", stream,
    ])  # fmt: skip
    consume(parts, stream)
    wait_until(lambda: slot_is_read(postgres) and (tmp_path / "ledger" / FILE).exists(), 90, parts)
    for number in range(TRANSACTIONS):
        if number == TRANSACTIONS // 3:
            resharding.split(stream)
        if number % (TRANSACTIONS // KILLS) == TRANSACTIONS // KILLS // 2:
            kill(*descendants(parts.running["ledger1"].pid)[2:])
        postgres.run(
            f"INSERT INTO ledger SELECT i, 'first' FROM generate_series({number * 98 + 1}, {number * 98 + 96}) i "
            "WHERE i % 97 > 0",
            f"UPDATE ledger SET value = 'turn {number}' WHERE id % 7 = {number % 7}",
        )
    source = dict(postgres.query("SELECT id, value FROM ledger"))
    wait_until(lambda: rows(tmp_path) == source, 120, parts)
    found = audit_stream(stream, resharding.client("kinesis"))
    assert seen(tmp_path) == {position.sort_key for position in found.positions}
    assert found.records > 20 * records_on(resharding, stream), "they were not aggregated"


def test_a_lease_that_is_handed_over_is_flushed_and_checkpointed_first(
    tmp_path: Path, resharding: ReshardingCloud, parts: ChildProcesses
) -> None:
    """With the KCL's graceful handoff on, the next worker continues exactly where the previous one stopped.

    KCL 3.1.3 may lose a lease that is handed back at once: no worker reads its shard until they are started again
    (awslabs/amazon-kinesis-client #1743). That is not the kit's fault: the test starts them again, and they continue.
    """
    properties = tmp_path / "kcl_properties" / "ledger.properties"
    properties.parent.mkdir()
    wanted = read_file("ledger") | {"isGracefulLeaseHandoffEnabled": "true"}
    properties.write_text("".join(f"{name} = {value}\n" for name, value in wanted.items()))
    stream = resharding.make_stream(shards=4)
    consume(parts, stream, folder=tmp_path)
    with Feed(resharding, stream, 1) as feed:
        wait_until(lambda: len(reading(tmp_path)) == 4, 90, parts)
        consume(parts, stream, folder=tmp_path)
        leases = LeaseTable(f"{stream}-ledger", resharding.client("dynamodb"))
        wait_until(lambda: len({lease.owner for lease in (leases.read() or {}).values()}) == 2, 120, parts)
    expected = {entry.change.position.sort_key for entry in feed.entries}
    if not happens(lambda: covered(tmp_path) >= expected, 45):
        assert superseded(tmp_path) == 0, "something came again"
        parts.stop()
        consume(parts, stream, folder=tmp_path)
        wait_until(lambda: covered(tmp_path) >= expected, 120, parts)
    assert superseded(tmp_path) == 0, "something came again"


def test_a_consumer_that_is_told_to_stop_leaves_a_long_page_and_goes_on_there(
    tmp_path: Path, resharding: ReshardingCloud, parts: ChildProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page of folded records takes half a minute; what was applied is checkpointed, and no process remains."""
    stream, client = resharding.make_stream(shards=1), resharding.client("kinesis")
    entries = [entry("I", key, "read", key) for key in range(1, 60_001) if key % POISON]
    for at in range(0, len(entries), 1_000):
        client.put_record(StreamName=stream, Data=folded(entries[at : at + 1_000]), PartitionKey="cdc")
    monkeypatch.setenv("CDC_TEST_SLOW", "0.0005")
    consume(parts, stream, folder=tmp_path)
    wait_until(lambda: len(seen(tmp_path)) > 3_000 if (tmp_path / "ledger" / FILE).exists() else False, 90, parts)
    consumer = parts.running.pop("ledger0")
    family = descendants(consumer.pid)
    assert len(family) >= 3
    consumer.stop(15)
    wait_until(lambda: not any(start_time(one) for one in family), 5, parts)
    left = len(seen(tmp_path))
    assert left < 59_000, "the page was worked off"
    [lease] = (LeaseTable(f"{stream}-ledger", resharding.client("dynamodb")).read() or {}).values()
    assert lease.checkpoint.isdigit()
    monkeypatch.setenv("CDC_TEST_SLOW", "0")
    consume(parts, stream, folder=tmp_path)
    wait_until(lambda: seen(tmp_path) == {one.change.position.sort_key for one in entries}, 90, parts)
    assert superseded(tmp_path) < 1_000, "at most the record that it left"


def superseded(folder: Path) -> int:
    return sum(report.superseded for report in read_reports(folder, "ledger"))


def slot_is_read(postgres: Database) -> bool:
    return bool(postgres.query(f"SELECT 1 FROM pg_replication_slots WHERE slot_name = '{postgres.slot}' AND active"))


def records_on(cloud: ReshardingCloud, stream: str) -> int:
    client, count = cloud.client("kinesis"), 0
    for shard in client.list_shards(StreamName=stream)["Shards"]:
        iterator = client.get_shard_iterator(
            StreamName=stream, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        count += len(client.get_records(ShardIterator=iterator)["Records"])
    return count
