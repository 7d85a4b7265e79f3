"""`cdcctl status|doctor|slot|stream|leases|init` as a user types them, with a real PostgreSQL and the local AWS."""

import json
import os
from pathlib import Path
from typing import Any

import boto3
import pytest

from cdckit.aggregation import SubRecord, pack
from consumers.dead_letters import DeadLetter, open_store
from consumers.kcl.leases import LeaseTable
from consumers.stream.record import RawRecord
from consumers.stream.shards import list_shards
from producer.postgres.connection import Source
from producer.postgres.slots import create_slot
from tests.acceptance.conftest import run_cdcctl
from tests.support.histories import entry
from tests.support.local_aws import Cloud
from tests.support.postgres import Database

pytestmark = pytest.mark.integration


@pytest.fixture
def here(postgres: Database, stream: str, tmp_path: Path) -> dict[str, str]:
    return {
        "CDC_DSN": postgres.dsn, "CDC_SLOT": postgres.slot, "CDC_STREAM": stream, "CDC_DATA": str(tmp_path / "data"),
        "CDC_APP_PREFIX": stream,
    }  # fmt: skip


def run(here: dict[str, str], *arguments: str, **more: str) -> Any:
    return run_cdcctl(*arguments, environ={**os.environ, **here, **more}, folder=Path(here["CDC_DATA"]).parent)


def put(stream: str, numbers: range, *, aggregated: bool = False) -> None:
    client = boto3.client("kinesis")
    entries = [entry("I", number, "x", at=number) for number in numbers]
    if aggregated:
        packed = pack(SubRecord(change.partition_key, change.data) for change in entries)
        client.put_record(StreamName=stream, PartitionKey="a", Data=packed)
        return
    for change in entries:
        client.put_record(StreamName=stream, PartitionKey=change.partition_key, Data=change.data)


def everything(client: Any, stream: str, shard: str) -> Any:
    where = client.get_shard_iterator(StreamName=stream, ShardId=shard, ShardIteratorType="TRIM_HORIZON")
    return client.get_records(ShardIterator=where["ShardIterator"])["Records"]


def test_status_before_the_first_run(here: dict[str, str]) -> None:
    done = run(here, "status")
    assert done.returncode == 1  # there is no slot
    assert "no slot" in done.stdout
    assert "next: cdcctl producer run" in done.stdout
    assert "Traceback" not in done.stderr


def test_status_reports_the_progress_of_each_shard(here: dict[str, str], postgres: Database, stream: str) -> None:
    source = Source(postgres.dsn)
    create_slot(source, postgres.slot)
    source.close()
    put(stream, range(40))
    table = LeaseTable(f"{stream}-search")
    table.seed([shard["ShardId"] for shard in list_shards(stream)])
    status = json.loads(run(here, "status", "-o", "json").stdout)
    [search] = status["consumers"]
    assert sum(shard["pending"] for shard in search["shards"]) == 40
    assert all(shard["lag"] > 0 and shard["exact"] and not shard["alive"] for shard in search["shards"])
    assert 23 * 3600 < search["shards"][0]["until_loss"] <= 24 * 3600
    assert status["advice"]["action"] == "cdcctl producer run"  # upstream problems come first
    over = run(here, "status", "--max-lag", "1s")
    assert over.returncode == 1
    assert "exceeds --max-lag" in over.stdout

    client = boto3.client("kinesis")
    for shard in search["shards"]:
        iterator = client.get_shard_iterator(
            StreamName=stream, ShardId=shard["shard"], ShardIteratorType="TRIM_HORIZON"
        )
        records = client.get_records(ShardIterator=iterator["ShardIterator"])["Records"]
        table.rewind({shard["shard"]: records[-3]["SequenceNumber"]}, [])
    status = json.loads(run(here, "status", "-o", "json").stdout)
    assert [shard["pending"] for shard in status["consumers"][0]["shards"]] == [2, 2]
    assert all(shard["position"] for shard in status["consumers"][0]["shards"])


def test_a_checkpoint_inside_an_aggregated_record(here: dict[str, str], stream: str) -> None:
    put(stream, range(10), aggregated=True)
    shards = [shard["ShardId"] for shard in list_shards(stream)]
    table = LeaseTable(f"{stream}-search")
    table.seed(shards)
    client = boto3.client("kinesis")
    for shard in shards:
        for record in everything(client, stream, shard):
            boto3.client("dynamodb").update_item(
                TableName=table.application, Key={"leaseKey": {"S": shard}},
                UpdateExpression="SET #c = :c, checkpointSubSequenceNumber = :s",
                ExpressionAttributeNames={"#c": "checkpoint"},
                ExpressionAttributeValues={":c": {"S": record["SequenceNumber"]}, ":s": {"N": "6"}},
            )  # fmt: skip
    status = json.loads(run(here, "status", "-o", "json").stdout)
    assert sorted(shard["pending"] for shard in status["consumers"][0]["shards"]) == [0, 3]


def test_dead_letters_are_counted(here: dict[str, str], stream: str) -> None:
    LeaseTable(f"{stream}-search").seed([shard["ShardId"] for shard in list_shards(stream)])
    store = open_store("", "search", Path(here["CDC_DATA"]))
    store.put(DeadLetter.of("search", "shard", RawRecord(b"x", "k", "1", 0), ValueError("no"), None))
    [search] = json.loads(run(here, "status", "-o", "json").stdout)["consumers"]
    assert search["dead_letters"] == 1


def test_doctor_names_tables_that_lose_changes_and_the_fix(here: dict[str, str], postgres: Database) -> None:
    postgres.run("CREATE TABLE keyless (a int)", "CREATE TABLE fine (a int PRIMARY KEY)")
    done = run(here, "doctor", "-o", "json")
    found = json.loads(done.stdout)
    assert done.returncode == 1
    [bad] = [finding for finding in found if finding["level"] == "failed"]
    assert "public.keyless" in bad["found"]
    assert bad["fix"].startswith("ALTER TABLE public.keyless REPLICA IDENTITY FULL")
    postgres.run("ALTER TABLE keyless REPLICA IDENTITY FULL")
    again = run(here, "doctor")
    assert again.returncode == 0, again.stdout
    assert "wal2json  loads" in again.stdout
    assert postgres.query("SELECT count(*) FROM pg_replication_slots WHERE slot_name LIKE 'cdc_doctor%'") == [(0,)]


def test_doctor_reports_a_missing_server_and_stream_and_continues(here: dict[str, str]) -> None:
    done = run(here, "doctor", CDC_DSN="postgresql://127.0.0.1:1/x", CDC_STREAM="nowhere")
    assert done.returncode == 1
    assert "✗ postgresql  cannot connect" in done.stdout
    assert "cdcctl stream create" in done.stdout
    assert "✓ aws" in done.stdout


def test_slot_commands(here: dict[str, str], postgres: Database) -> None:
    assert run(here, "slot", "create").returncode == 0
    slots = json.loads(run(here, "slot", "ls", "-o", "json").stdout)
    [slot] = [slot for slot in slots if slot["name"] == postgres.slot]
    assert (slot["plugin"], slot["active_pid"]) == ("wal2json", None)
    unconfirmed = run(here, "slot", "drop")
    assert unconfirmed.returncode == 2
    assert "--yes" in unconfirmed.stderr
    assert run(here, "slot", "drop", "--yes").returncode == 0
    missing = run(here, "slot", "drop", "--yes")
    assert missing.returncode == 3
    assert "no slot" in missing.stderr


def test_stream_commands(here: dict[str, str], stream: str) -> None:
    new = {**here, "CDC_STREAM": f"{stream}-fresh"}
    assert run(new, "stream", "describe").returncode == 4
    assert run(new, "stream", "create", "--shards", "3").returncode == 0
    shown = json.loads(run(new, "stream", "describe", "-o", "json").stdout)
    assert (shown["status"], shown["retention_hours"], len(shown["shards"])) == ("ACTIVE", 168, 3)
    assert abs(sum(shard["share"] for shard in shown["shards"]) - 1) < 1e-9
    again = run(new, "stream", "create")
    assert again.returncode == 4
    assert "it exists" in again.stderr
    assert "already" in run(new, "stream", "reshard", "--shards", "3").stderr
    assert run(new, "stream", "reshard", "--shards", "6").returncode == 2  # there is no terminal to ask on


def test_lease_commands(here: dict[str, str], stream: str) -> None:
    never = run(here, "leases", "ls", "search")
    assert never.returncode == 5
    assert "cdcctl consumer run search" in never.stderr
    LeaseTable(f"{stream}-search").seed([shard["ShardId"] for shard in list_shards(stream)])
    rows = json.loads(run(here, "leases", "ls", "search", "-o", "json").stdout)
    assert [(row["checkpoint"], row["alive"]) for row in rows] == [("TRIM_HORIZON", False)] * 2


def test_init_writes_what_was_chosen_and_replaces_nothing(tmp_path: Path) -> None:
    bare = {"CDC_DATA": str(tmp_path / "data"), "PATH": os.environ["PATH"]}
    assert run(bare, "init").returncode == 2  # there is no terminal to ask on
    arguments = ("init", "--yes", "--stream", "orders", "--dsn", "host=db user='o\\'k'", "--max-dead-share", "0.1")
    assert run(bare, *arguments).returncode == 0
    path = tmp_path / "cdc.toml"
    assert path.stat().st_mode & 0o777 == 0o600
    shown = json.loads(run(bare, "config", "show", "-o", "json").stdout)
    values = {setting["name"]: setting["value"] for setting in shown["settings"]}
    assert (values["stream"], values["dsn"], values["max_dead_share"]) == ("orders", "host=db user='o\\'k'", "0.1")
    written = path.read_text()
    refused = run(bare, *arguments)
    assert refused.returncode == 2
    assert "--force" in refused.stderr
    assert path.read_text() == written
    assert "password" in run(bare, *arguments, "--force", "--dsn", "postgresql://u:secret@db/x").stderr


def test_the_aws_flags_work_as_in_the_aws_cli(cloud: Cloud, here: dict[str, str]) -> None:
    bare = {**here, "AWS_ENDPOINT_URL": "", "AWS_REGION": "", "AWS_DEFAULT_REGION": ""}
    shown = run(bare, "stream", "describe", "--endpoint-url", cloud.url, "--region", "us-east-1", "-o", "json")
    assert json.loads(shown.stdout)["status"] == "ACTIVE"
    missing = run(here, "stream", "describe", "--profile", "unknown-profile")
    assert missing.returncode == 4
    assert "unknown-profile" in missing.stderr
