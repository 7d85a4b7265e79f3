"""The producer as a Lambda function: bounded runs on real PostgreSQL and a local stream; secrets stay secret."""

import json
import threading
import time
from typing import Any

import boto3
import psycopg2
import pytest

from tests.support.lambda_function import Function
from tests.support.local_aws import Cloud
from tests.support.postgres import Database
from tests.support.stream_audit import audit_stream

pytestmark = pytest.mark.integration
PLANTED = "pl4nted s3cret'\\@"


@pytest.fixture
def environ(postgres: Database, cloud: Cloud, stream: str) -> dict[str, str]:
    postgres.run("CREATE TABLE orders (id integer PRIMARY KEY, n integer)")
    return {
        **cloud.environ, "CDC_DSN": postgres.dsn, "CDC_SLOT": postgres.slot, "CDC_STREAM": stream,
        "CDC_LAMBDA_IDLE_SECONDS": "1",
    }  # fmt: skip


def test_a_run_relays_what_there_is_and_ends_when_nothing_more_comes(
    postgres: Database, environ: dict[str, str], stream: str
) -> None:
    function = Function(environ, seconds=300)
    first = function.invoke()
    assert first.result["status"] == "relayed", first
    assert first.result["changes"] == 0
    postgres.run("INSERT INTO orders SELECT i, 0 FROM generate_series(1, 1000) i")
    second = function.invoke({"source": "aws.events"})
    assert (second.result["status"], second.result["changes"]) == ("relayed", 1000)
    assert second.result["seconds"] < 200
    assert postgres.query(f"SELECT active FROM pg_replication_slots WHERE slot_name = '{postgres.slot}'") == [(False,)]
    third = function.invoke()
    assert third.result["changes"] == 0
    assert len(audit_stream(stream).positions) == 1000


def test_under_steady_load_it_ends_before_its_time_does_and_nothing_is_lost(
    postgres: Database, environ: dict[str, str], stream: str
) -> None:
    function, ended, count = Function(environ, seconds=10), threading.Event(), 0
    assert function.invoke().result["changes"] == 0

    def write() -> None:
        nonlocal count
        while not ended.is_set():
            postgres.run(f"INSERT INTO orders SELECT i, 0 FROM generate_series({count}, {count + 9}) i")
            count += 10

    writer = threading.Thread(target=write)
    writer.start()
    try:
        loaded = function.invoke()
    finally:
        ended.set()
        writer.join()
    assert not loaded.timed_out, loaded
    assert loaded.result["changes"] > 0
    function.invoke()
    found = audit_stream(stream)
    assert {change.key["id"] for changes in found.by_key.values() for change in changes} == set(range(count))


def test_of_two_at_once_one_works_and_the_other_does_nothing(postgres: Database, environ: dict[str, str]) -> None:
    """Both start together without a slot; the second asks the server once, and reports which process reads the slot."""
    function = Function({**environ, "CDC_LAMBDA_IDLE_SECONDS": "4"})
    both = [function.start(), function.start()]
    answers = [function.finish(process).result for process in both]
    assert sorted(answer["status"] for answer in answers) == ["busy", "relayed"], answers
    working = function.start()
    deadline = time.monotonic() + 60
    while not postgres.query(f"SELECT 1 FROM pg_replication_slots WHERE slot_name = '{postgres.slot}' AND active"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    other = function.invoke().result
    assert working.poll() is None, "the first was to be at work still"
    function.finish(working)
    assert other["status"] == "busy"
    assert "is active for PID" in other["why"]


def test_a_transaction_that_does_not_fit_into_a_run_is_reported(postgres: Database, environ: dict[str, str]) -> None:
    postgres.run(f"SELECT pg_create_logical_replication_slot('{postgres.slot}', 'wal2json')")
    postgres.run("INSERT INTO orders SELECT i, 0 FROM generate_series(1, 400000) i")
    answer = Function(environ, seconds=12).invoke()
    assert answer.result["status"] == "unfinished", answer
    assert answer.result["changes"] > 0
    assert "larger than a run" in answer.log


def test_it_logs_in_with_a_secrets_password_and_a_rotated_one(postgres: Database, environ: dict[str, str]) -> None:
    user, secret = login(postgres, PLANTED), f"source-{postgres.slot}"
    client = boto3.client("secretsmanager")
    client.create_secret(Name=secret, SecretString=json.dumps({"username": user, "password": PLANTED}))
    host, port = (
        psycopg2.extensions.parse_dsn(postgres.dsn)["host"],
        psycopg2.extensions.parse_dsn(postgres.dsn)["port"],
    )
    function = Function(
        {**environ, "CDC_DSN": f"host={host} port={port} dbname={postgres.slot}", "CDC_DSN_SECRET": secret}
    )
    assert function.invoke().result["status"] == "relayed"
    postgres.run(f"ALTER ROLE {user} PASSWORD 'rotated'")
    client.put_secret_value(SecretId=secret, SecretString=f"{dsn_without_user(postgres)} user={user} password=rotated")
    assert function.invoke().result["status"] == "relayed"


def dsn_without_user(postgres: Database) -> str:
    """Return the database's connection string without a user."""
    parts = psycopg2.extensions.parse_dsn(postgres.dsn)
    return f"host={parts['host']} port={parts['port']} dbname={postgres.slot}"


def login(postgres: Database, password: str) -> str:
    """Create a role that may replicate, with a password that the server checks."""
    user = f"u{postgres.slot}"
    with psycopg2.connect(postgres.dsn) as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE ROLE {user} LOGIN REPLICATION PASSWORD %s", (password,))
    connection.close()
    return user


WRONG: dict[str, Any] = {
    "wrong password": {"username": "nobody", "password": PLANTED},
    "no username": {"password": PLANTED},
    "no JSON": "{" + PLANTED,
    "an unquoted password": f"host=127.0.0.1 user=x password={PLANTED} more",
    "a raw @ in a URI": f"postgresql://x:{PLANTED}@127.0.0.1/x",
    "a password for a port": {"username": "x", "password": PLANTED, "port": "70000"},
    "a host that is none": {"username": "x", "password": PLANTED, "host": "nowhere.invalid"},
}


@pytest.mark.parametrize("what", WRONG)
def test_whatever_is_wrong_with_the_secret_no_error_and_no_log_quotes_it(
    postgres: Database, environ: dict[str, str], what: str
) -> None:
    value, secret = WRONG[what], f"source-{postgres.slot}"
    text = value if isinstance(value, str) else json.dumps(value)
    boto3.client("secretsmanager").create_secret(Name=secret, SecretString=text)
    dsn = "" if what in ("a password for a port", "a host that is none") else dsn_without_user(postgres)
    answer = Function({**environ, "CDC_DSN": dsn, "CDC_DSN_SECRET": secret}).invoke()
    assert answer.error["errorType"] == "ProducerFailed", answer
    assert answer.error["errorMessage"].startswith("SourceError: ")
    everything = f"{json.dumps(answer.error)} {answer.log}"
    for piece in ("pl4nted", "s3cret"):
        assert piece not in everything
