"""``cdcctl producer run`` as a user runs it: metrics, expired credentials, SIGTERM; every built-in type verbatim."""
# ruff: noqa: E501 -- rows of SQL

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

import pytest

from cdcctl.sandbox.processes import free_port
from cdckit.envelope import decode
from cdckit.errors import StreamError
from cdckit.runtime.settings import Settings
from consumers.stream.reader import StreamReader
from consumers.stream.start import EARLIEST
from producer.kinesis.shard_map import ShardMap
from producer.kinesis.stream import Stream
from producer.postgres.replication_slot import WAL2JSON_OPTIONS
from producer.service import RunLimits, run
from tests.support.fault_proxy import FaultProxy, Faults
from tests.support.local_aws import Cloud
from tests.support.postgres import Database

pytestmark = pytest.mark.integration
NAME = "ein_sehr_langer_name_mit_genau_dreiundsechzig_zeichen_xyz_63_ab"
TYPES = f"""
CREATE TYPE mood AS ENUM ('sad', 'o"k');
CREATE DOMAIN small AS integer CHECK (VALUE < 100);
CREATE TABLE every_type (
  id bigint PRIMARY KEY, a smallint, b integer, c numeric, d real, e double precision, f boolean, g char(5), h varchar(9),
  i text, j bytea, k date, l time, m timetz, n timestamp, o timestamptz, p interval, q uuid, r json, s jsonb, t xml,
  u inet, v cidr, w macaddr, x bit(4), y varbit, z point, aa box, ab int[], ac text[][], ad int4range, ae tstzrange,
  af mood, ag small, ah tsvector, ai money, aj pg_lsn, ak oid, al name,
  "{NAME}" text, generated integer GENERATED ALWAYS AS (a + 1) STORED)
"""
EDGES = f"""
INSERT INTO every_type (id, a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, y, z, aa, ab, ac, ad,
  ae, af, ag, ah, ai, aj, ak, al, "{NAME}") VALUES
(9223372036854775807, 32767, -2147483648, {"9" * 500}.{"1" * 500}, 'NaN', '-Infinity', true, 'é', '', E'"\\\\\\n\\t\\u0001\u2028',
 '\\x00ff', 'infinity', '24:00', '23:59:59.999999+14', '-infinity', 'infinity', '-178000000 years', gen_random_uuid(),
 '{{"a":[1,{{"b":null}}]}}', '{{"n":1e400,"t":"\\"}}"}}', '<a>&amp;</a>', '::1/64', '10.0.0.0/8', '08:00:2b:01:02:03', B'1010',
 B'', '(1e308,-0)', '((0,0),(1,1))', '{{}}', '{{{{a,"b,c"}},{{NULL,""}}}}', 'empty', '(,2026-01-01]', 'o"k', 99, 'a:1A b',
 '-92233720368547758.08', 'FFFFFFFF/FFFFFFFF', 4294967295, 'name', ',"pk":['),
(1, NULL, NULL, 'NaN', 1e-45, 5e-324, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
 NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)
"""


@contextmanager
def running(postgres: Database, stream: str, *arguments: str, **environ: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "cdcctl.main", "producer", "run", *arguments]
    settings = {"CDC_DSN": postgres.dsn, "CDC_SLOT": postgres.slot, "CDC_STREAM": stream, "CDC_CONFIG": os.devnull}
    with subprocess.Popen(
        command, env={**os.environ, **settings, **environ}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for_metric(port: int, line: str, seconds: float = 30) -> str:
    deadline, text = time.monotonic() + seconds, ""
    while line not in text:
        assert time.monotonic() < deadline, f"{line!r} not in {text}"
        time.sleep(0.1)
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
                text = answer.read().decode()
        except OSError:
            continue
    return text


def records_of(stream: str) -> list[bytes]:
    reader = StreamReader(stream, EARLIEST, stop_when_caught_up=True)
    return [record.data for page in reader.pages() for record in page.records]


@pytest.mark.parametrize("aggregate", ["--no-aggregate", "--aggregate"])
def test_expired_credentials_are_waited_out_metrics_tell_and_sigterm_drains(
    postgres: Database, cloud: Cloud, stream: str, aggregate: str
) -> None:
    port = free_port()
    with FaultProxy(cloud.url) as proxy:
        proxy.faults = Faults(expired=frozenset(["local"]))
        arguments = ("--metrics-port", f"127.0.0.1:{port}", "-o", "json", aggregate)
        with running(postgres, stream, *arguments, AWS_ENDPOINT_URL=proxy.url) as process:
            wait_for_metric(port, "cdc_changes_total")
            postgres.run(
                "CREATE TABLE orders (id integer PRIMARY KEY)", "INSERT INTO orders SELECT generate_series(1, 100)"
            )
            wait_for_metric(port, 'cdc_pending_changes{source="main"} 100.0')
            proxy.faults = Faults()
            text = wait_for_metric(port, 'cdc_changes_total{source="main"} 100.0')
            assert 'cdc_retries_total{source="main",why="failed"}' in text
            wait_for_metric(port, 'cdc_commit_to_ack_seconds_count{source="main"} 1.0')
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=15)
    assert process.returncode == 0
    assert '"changes":100' in out
    assert "renew the credentials" in err
    assert len(records_of(stream)) >= 100


def test_every_built_in_type_arrives_verbatim(postgres: Database, cloud: Cloud, stream: str) -> None:
    """The record is wal2json's own text, byte for byte, plus one key; the kit reads it."""
    postgres.run(*TYPES.split(";"))
    postgres.run(f"SELECT pg_create_logical_replication_slot('{postgres.slot}', 'wal2json')")
    postgres.run("SET LOCAL timezone = 'UTC'", EDGES)
    options = ", ".join(f"'{name}', '{value}'" for name, value in WAL2JSON_OPTIONS.items())
    session = "SELECT set_config(name, value, false) FROM (VALUES ('timezone', 'UTC'), ('extra_float_digits', '3')) s(name, value)"
    rows = postgres.query(
        f"WITH s AS MATERIALIZED ({session}) SELECT data FROM (SELECT count(*) FROM s) n, "
        f"pg_logical_slot_peek_changes('{postgres.slot}', NULL, NULL, {options})"
    )
    written = [data.encode() for (data,) in rows if data.startswith('{"action":"I"')]
    assert len(written) == 2
    with running(postgres, stream):
        deadline = time.monotonic() + 30
        while len(found := records_of(stream)) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.3)
    found.sort(key=lambda data: decode(data).position)
    for data, text in zip(found, written, strict=True):
        assert data.startswith(text[:-1])
        change = decode(data)
        assert change.after is not None
    first = decode(found[0]).after
    assert first is not None
    assert str(first["c"]) == f"{'9' * 500}.{'1' * 500}"
    assert (first["d"], first["e"]) == (None, None), "what wal2json itself loses"
    assert (first["n"], first["o"], first[NAME]) == ("-infinity", "infinity", ',"pk":[')
    assert first["i"] == '"\\\n\t\u0001\u2028'


def test_a_stream_that_goes_away_as_the_relay_begins_is_waited_for(
    postgres: Database, cloud: Cloud, stream: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The stream can be listed at the start, then not for a moment while the slot is read already, then again."""
    whole, asked = Stream.shards, count(1)

    def shards(self: Stream) -> ShardMap:
        if next(asked) in (2, 3):
            raise StreamError("cannot list the shards", "planned")
        return whole(self)

    monkeypatch.setattr(Stream, "shards", shards)
    settings = Settings(dsn=postgres.dsn, slot=postgres.slot, stream=stream)
    postgres.run(f"SELECT pg_create_logical_replication_slot('{postgres.slot}', 'wal2json')")
    postgres.run("CREATE TABLE orders (id integer PRIMARY KEY)", "INSERT INTO orders VALUES (1), (2)")
    done = run(settings, lambda: False, limits=RunLimits(idle_seconds=0.5))
    assert done.changes == 2
    assert caplog.text.count("cannot list the shards; reconnecting") == 2
    assert len(records_of(stream)) == 2
