"""The sandbox as a user meets it: reshards with the real KCL, start again, and what it keeps."""

import json
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import boto3
import pytest

from cdckit.runtime.settings import Settings
from consumers.kcl.leases import LeaseTable
from producer.postgres.connection import Source
from producer.postgres.slots import drop_slot, find_slot
from tests.support.cdcctl import run_cdcctl
from tests.support.sandbox_run import SandboxRun

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300)]
CONSUMERS = ("audit", "search", "parquet")


def tags() -> set[str]:
    """The stream's."""
    return {tag["Key"] for tag in boto3.client("kinesis").list_tags_for_stream(StreamName="cdc")["Tags"]}


@contextmanager
def changing(whole: SandboxRun) -> Iterator[None]:
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
def test_a_reshard_loses_nothing_and_the_kcl_finishes_the_parents_first(whole: SandboxRun, fan_out: bool) -> None:
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


def test_the_rows_that_are_there_are_published_though_local_up_made_the_slot(whole: SandboxRun) -> None:
    whole.source.query("CREATE TABLE before (id int PRIMARY KEY, t text)")
    whole.source.query("INSERT INTO before SELECT n, 'old' FROM generate_series(1, 100) n")
    slot = find_slot(whole.source, "cdc")
    assert slot is not None
    whole.source.query("SELECT pg_replication_slot_advance('cdc', pg_current_wal_lsn())")  # the slot has none of it
    whole.parts.start("producer", ["producer", "run", "--snapshot", "initial"])

    def rows() -> dict[int, str]:
        tailed = whole.cdcctl("tail", "--from-beginning", "--no-follow", "-o", "jsonl")
        found = [json.loads(line) for line in tailed.stdout.splitlines()]
        return {one["after"]["id"]: one["after"]["t"] for one in found}

    whole.wait(lambda: len(rows()) == 100)
    whole.source.query("UPDATE before SET t = 'new' WHERE id = 7")
    whole.wait(lambda: rows()[7] == "new")
    whole.parts.stop()
    before = whole.cdcctl("tail", "--from-beginning", "--no-follow", "-o", "jsonl").stdout
    whole.parts.start("producer", ["producer", "run", "--snapshot", "initial"])  # it is done: nothing comes again
    whole.source.query("UPDATE before SET t = 'newer' WHERE id = 8")
    whole.wait(lambda: rows()[8] == "newer")
    after = whole.cdcctl("tail", "--from-beginning", "--no-follow", "-o", "jsonl").stdout
    assert len(after.splitlines()) == len(before.splitlines()) + 1


def test_a_slot_that_is_gone_is_not_made_again_by_a_snapshot_or_local_up(whole: SandboxRun) -> None:
    whole.parts.start("producer", ["producer", "run", "--snapshot", "initial"])
    whole.wait(lambda: (slot := find_slot(whole.source, "cdc")) is not None and slot.active_pid is not None)
    whole.wait(lambda: "cdc.source.main" in tags())
    whole.parts.stop()
    drop_slot(whole.source, "cdc")
    refused = whole.cdcctl("producer", "run", "--snapshot", "initial")
    assert refused.returncode == 3
    assert "which does not exist" in refused.stderr
    assert find_slot(whole.source, "cdc") is None


def test_reset_starts_again_from_nothing(folder: Path) -> None:
    folder.chmod(0o700)  # as root PostgreSQL's user cannot enter it: the cluster lies elsewhere

    def cdcctl(*arguments: str) -> subprocess.CompletedProcess[str]:
        return run_cdcctl(*arguments, environ={"CDC_DATA": str(folder / "data")}, folder=folder)

    def up() -> Source:
        found = cdcctl("local", "up", "-o", "json")
        assert found.returncode == 0, found.stderr
        return Source(json.loads(found.stdout)["CDC_DSN"])

    assert "nothing to delete" in cdcctl("local", "reset").stderr
    try:
        with closing(up()) as source:
            source.query("CREATE TABLE kept (id int)")
        for name in ("search", "status/search", "fills", "mine"):
            (folder / "data" / name).mkdir(parents=True)
        where = Path(json.loads((folder / "data" / "local" / "stack.json").read_text())["postgres"]["folder"])
        refused = cdcctl("local", "reset")
        assert refused.returncode == 2
        assert str(where) in refused.stderr or where.is_relative_to(folder)
        assert where.exists()
        assert cdcctl("local", "reset", "--yes").returncode == 0
        assert not where.exists()
        assert [path.name for path in (folder / "data").iterdir()] == ["mine"], "what is not the sandbox's stays"
        with closing(up()) as source:
            assert source.query("SELECT to_regclass('kept')") == [(None,)]
        cdcctl("local", "down")
        shutil.rmtree(folder / "data")  # by hand, as earlier messages said
        with closing(up()) as source:
            assert source.query("SELECT to_regclass('kept')") == [(None,)]
    finally:
        cdcctl("local", "reset", "--yes")


def test_reset_is_refused_while_a_consumer_runs(whole: SandboxRun) -> None:
    whole.parts.start("audit", ["consumer", "run", "audit"])
    whole.wait(lambda: bool(list((whole.folder / "run").glob("audit-*.lock"))))
    refused = whole.cdcctl("local", "reset", "--yes")
    assert refused.returncode != 0
    assert "still running: audit" in refused.stderr
    whole.parts.running.pop("audit").stop(25)
    whole.parts.start("producer", ["producer", "run"])
    whole.wait(lambda: (slot := find_slot(whole.source, "cdc")) is not None and slot.active_pid is not None)
    refused = whole.cdcctl("local", "reset", "--yes")
    assert "the producer of slot 'cdc'" in refused.stderr
    assert whole.stack.running["postgres"]


def test_local_status_says_what_the_streams_hold_and_may(whole: SandboxRun) -> None:
    whole.parts.start("producer", ["producer", "run"])
    whole.shop.create()
    whole.wait(lambda: whole.stack.cloud.stored.bytes > 0)
    shown = whole.cdcctl("local", "status", COLUMNS="200")
    assert shown.returncode == 0
    assert "streams hold" in shown.stdout
    assert "at most 4.3 GB" in shown.stdout
