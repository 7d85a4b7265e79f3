"""Oversized changes in a bucket, and the mask key in a secret: the whole way on a local AWS, and what goes wrong."""

import gzip
import hmac
import json
import secrets
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest

from cdckit.change import Op
from cdckit.errors import StreamError, UsageError
from cdckit.runtime.settings import Settings
from producer.service import run
from tests.integration.test_snapshot import on_stream, producing
from tests.support.calling import Caller
from tests.support.local_aws import Cloud
from tests.support.postgres import Database
from tests.support.satellites import SATELLITES, differences, filled

pytestmark = pytest.mark.integration
NOISE = "(SELECT string_agg(md5(i::text || {}), '') FROM generate_series(1, 60000) i)"


@pytest.fixture
def settings(postgres: Database, cloud: Cloud, stream: str, tmp_path: Path) -> Settings:
    postgres.run("CREATE TABLE docs (id integer PRIMARY KEY, body text)")
    postgres.run(f"SELECT pg_create_logical_replication_slot('{postgres.slot}', 'wal2json')")
    return Settings(dsn=postgres.dsn, slot=postgres.slot, stream=stream, data=str(tmp_path / "data"))


class Bucket:
    """A bucket of its own, and what it holds."""

    def __init__(self, stream: str) -> None:
        self.name, self.client = f"large-{stream}", boto3.client("s3")
        self.client.create_bucket(Bucket=self.name)

    def objects(self) -> dict[str, bytes]:
        listed = self.client.list_objects_v2(Bucket=self.name).get("Contents", [])
        return {one["Key"]: self.client.get_object(Bucket=self.name, Key=one["Key"])["Body"].read() for one in listed}

    def put(self, key: str, body: bytes) -> None:
        self.client.put_object(Bucket=self.name, Key=key, Body=body)


@pytest.fixture
def bucket(stream: str) -> Bucket:
    return Bucket(stream)


@pytest.fixture
def large(settings: Settings, postgres: Database, bucket: Bucket) -> Settings:
    """Three rows of 2 MB that no record can hold, and a small one."""
    settings = replace(settings, oversize=f"s3://{bucket.name}/a b/c%d")
    with producing(settings, postgres):
        postgres.run(
            *(f"INSERT INTO docs VALUES ({number}, {NOISE.format(number)})" for number in (1, 2, 3)),
            "INSERT INTO docs VALUES (4, 'small')",
        )
    return settings


def row_of(body: bytes) -> int:
    """The id of the row that an object keeps."""
    return int(next(one["value"] for one in json.loads(gzip.decompress(body))["columns"] if one["name"] == "id"))


def test_what_is_kept_in_a_bucket_is_fetched_by_every_satellite(
    large: Settings, postgres: Database, bucket: Bucket, tmp_path: Path
) -> None:
    kept = bucket.objects()
    assert {key.rpartition("/")[0] for key in kept} == {"a b/c%d/main"}
    assert sorted(map(row_of, kept.values())) == [1, 2, 3]
    assert {change.key["id"]: len(str((change.after or {})["body"])) for change in on_stream(large)} == {
        1: 1_920_000, 2: 1_920_000, 3: 1_920_000, 4: 5
    }  # fmt: skip
    assert filled(large, tmp_path / "shadow") == {name: [] for name in SATELLITES}
    assert differences(large, tmp_path / "shadow") == []


def reads(
    cdcctl: Caller, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> tuple[dict[int, int], Sequence[str], Any]:
    """What `tail` shows (a body's length by id), its other lines, and how `replay` ends."""
    for name, value in {"STREAM": settings.stream, "DATA": settings.data, "DSN": settings.dsn}.items():
        monkeypatch.setenv(f"CDC_{name}", value)
    tail = cdcctl("tail", "--since", "earliest", "--no-follow", "-o", "jsonl")
    shown = {one["key"]["id"]: len(one["after"]["body"]) for one in tail.objects if "after" in one}
    answer = json.loads(cdcctl("replay", "audit", "--from", "earliest", "-o", "json", status=None).stdout)
    return shown, [line for line in (tail.stdout + tail.stderr).splitlines() if '"after"' not in line], answer


def test_a_missing_and_an_altered_object_are_dead_letters_until_they_are_back(
    large: Settings, bucket: Bucket, tmp_path: Path, cdcctl: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_row = {row_of(body): (key, body) for key, body in bucket.objects().items()}
    bucket.client.delete_object(Bucket=bucket.name, Key=by_row[1][0])
    bucket.put(by_row[2][0], gzip.compress(gzip.decompress(by_row[2][1]).replace(b'"value":2', b'"value":9', 1)))
    for errors in filled(large, tmp_path / "shadow").values():
        assert len(errors) == 2
        assert [by_row[1][0] in error for error in errors if "is missing" in error] == [True]
        assert [by_row[2][0] in error for error in errors if "was altered" in error] == [True]
    shown, said, answer = reads(cdcctl, monkeypatch, large)
    assert shown == {3: 1_920_000, 4: 5}
    assert ["missing" in " ".join(said), "was altered" in " ".join(said)] == [True, True]
    assert (answer["applied"], answer["dead_lettered"]) == (2, 2)
    for key, body in by_row.values():
        bucket.put(key, body)
    shown, _, answer = reads(cdcctl, monkeypatch, large)
    assert sorted(shown) == [1, 2, 3, 4]
    assert (answer["applied"], answer["dead_lettered"]) == (4, 0)


def test_a_bucket_that_is_not_there_stops_the_producer_and_the_slot_waits(
    settings: Settings, postgres: Database, bucket: Bucket
) -> None:
    postgres.run(f"INSERT INTO docs VALUES (1, {NOISE.format(7)})")
    with pytest.raises(StreamError, match="cannot be stored in s3://not-there-at-all/x") as raised:
        run(replace(settings, oversize="s3://not-there-at-all/x"), lambda: False)
    assert "the slot waits" in raised.value.hint
    with producing(replace(settings, oversize=f"s3://{bucket.name}"), postgres):
        pass
    assert [change.key["id"] for change in on_stream(settings)] == [1]
    assert [row_of(body) for body in bucket.objects().values()] == [1]


def test_the_mask_key_comes_from_a_secret_and_is_held_against_the_streams(
    settings: Settings, postgres: Database, stream: str
) -> None:
    key, client = secrets.token_hex(32), boto3.client("secretsmanager")
    arn = client.create_secret(Name=f"mask/{stream}", SecretString=key)["ARN"]
    client.create_secret(Name=f"other/{stream}", SecretString=secrets.token_hex(32))
    client.create_secret(Name=f"short/{stream}", SecretString="guess me")
    masked = replace(settings, mask="docs.body=hash", mask_key=f"secretsmanager:mask/{stream}")
    with producing(masked, postgres):
        postgres.run("INSERT INTO docs VALUES (1, 'planted')")
    with producing(replace(masked, mask_key=arn), postgres):
        postgres.run("UPDATE docs SET body = 'planted again' WHERE id = 1")
    hashes = [(change.op, (change.after or {})["body"]) for change in on_stream(settings)]
    assert hashes == [
        (op, hmac.digest(key.encode(), text, "sha256").hex())
        for op, text in ((Op.INSERT, b"planted"), (Op.UPDATE, b"planted again"))
    ]
    assert not (settings.folder / "mask.key").exists()
    for name, said in (("other", "another mask key"), ("short", "could be guessed"), ("none", "cannot be read")):
        with pytest.raises(UsageError, match=said):
            run(replace(masked, mask_key=f"secretsmanager:{name}/{stream}"), lambda: False)
