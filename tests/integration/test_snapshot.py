"""Snapshot, backfill and repair on a real source and stream: rows lose to every change that their read did not see."""

import contextlib
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import psycopg2
import pytest

from cdckit.change import Change, Op, Table
from cdckit.errors import CdcError, SlotLost, UsageError
from cdckit.packing import decompress
from cdckit.position import Lsn
from cdckit.runtime.settings import Settings, environ_of
from consumers.stream.reader import StreamReader
from consumers.stream.start import EARLIEST
from producer.kinesis.stream import Stream, kinesis_client
from producer.postgres.catalog import SizedRelation, relations
from producer.postgres.connection import Source
from producer.snapshot.backfill import BackfillRequest, backfill, select_tables
from producer.snapshot.checkpoint import Plan, SnapshotCheckpoint
from producer.snapshot.chunks import WHOLE_TABLE, KeyRange, range_condition, split_table
from producer.snapshot.progress import SnapshotProgress
from producer.snapshot.republish import RepublishResult, republish
from producer.snapshot.watermark import Watermarks, begin_snapshot
from tests.support.local_aws import Cloud
from tests.support.postgres import Database
from tests.support.producer_runs import producing_until_caught_up, read_changes
from tests.support.satellites import SATELLITES, differences, filled
from tests.support.scale import scale
from tests.support.waiting import wait_until

pytestmark = pytest.mark.integration
NEVER: Callable[[], bool] = lambda: False  # noqa: E731
SILENT: Callable[[SnapshotProgress], None] = lambda _progress: None  # noqa: E731


@pytest.fixture
def settings(postgres: Database, cloud: Cloud, stream: str, tmp_path: Path) -> Settings:
    return Settings(dsn=postgres.dsn, slot=postgres.slot, stream=stream, data=str(tmp_path / "data"))


def read(change: Change) -> object:
    return (change.annotation or {}).get("read")


def docs(postgres: Database, rows: int) -> None:
    postgres.run(
        "CREATE TABLE docs (id integer PRIMARY KEY, n integer, body text)",
        f"INSERT INTO docs SELECT i, 0, 'body ' || i FROM generate_series(1, {rows}) i",
    )
    postgres.run("ANALYZE docs")


def test_the_rows_come_first_and_then_the_stream(settings: Settings, postgres: Database) -> None:
    docs(postgres, 25_000)
    with producing_until_caught_up(settings, postgres, snapshot=True):
        postgres.run("UPDATE docs SET n = 1 WHERE id <= 10", "DELETE FROM docs WHERE id = 11")
    changes = read_changes(settings)
    rows = [change for change in changes if read(change) == "snapshot"]
    assert sorted(change.key["id"] for change in rows) == list(range(1, 25_001))  # type: ignore[type-var]
    assert len({change.position for change in changes}) == len(changes) == 25_011
    newest = max(change.position for change in rows)
    assert all(change.position > newest for change in changes if read(change) is None)
    assert Stream(kinesis_client(), settings.stream).tag("cdc.snapshot.main") == "epoch=1 done"
    with producing_until_caught_up(settings, postgres, snapshot=True):
        postgres.run("UPDATE docs SET n = 2 WHERE id = 1")
    assert len(read_changes(settings)) == 25_012, "a second start reads nothing again"


def test_a_paused_backfill_resumes_and_reads_no_finished_range_again(settings: Settings, postgres: Database) -> None:
    docs(postgres, 60_000)
    with producing_until_caught_up(settings, postgres):
        request, seen = BackfillRequest(select_tables(settings, ["docs"]), rate=30_000.0), list[int]()
        paused = lambda: bool(seen) and seen[-1] > 25_000  # noqa: E731
        _, done = backfill(settings, request, paused, lambda now: seen.append(now.rows))
        assert not done
        rest, done = backfill(settings, replace(request, rate=None), NEVER, SILENT)
        assert done
    assert rest.before > 0
    keys = [change.key["id"] for change in read_changes(settings) if read(change) == "backfill"]
    assert set(keys) == set(range(1, 60_001))
    assert len(keys) < 60_000 + 60_000 - rest.before + 1
    assert list((settings.folder / "fills").iterdir()) == [], "the next one starts from the beginning"


def readers(stream: str) -> list[int]:
    """Return the worker processes of a snapshot into this stream."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            mine = f"CDC_STREAM={stream}\0".encode() in (folder / "environ").read_bytes()
            if mine and b"producer.snapshot.worker" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return found


def test_a_reading_process_that_is_killed_is_replaced(
    settings: Settings, postgres: Database, caplog: pytest.LogCaptureFixture
) -> None:
    docs(postgres, 60_000)
    killed = list[int]()

    def kill_one(now: SnapshotProgress) -> None:
        if now.rows > 15_000 and not killed:
            killed.append(readers(settings.stream)[0])
            os.kill(killed[0], signal.SIGKILL)

    with producing_until_caught_up(settings, postgres):
        request = BackfillRequest(select_tables(settings, ["docs"]), rate=20_000.0, workers=3)
        _, done = backfill(settings, request, NEVER, kill_one)
    assert done
    assert "a worker process was killed by signal 9; next try in" in caplog.text
    keys = {change.key["id"] for change in read_changes(settings) if read(change) == "backfill"}
    assert keys == set(range(1, 60_001))
    assert readers(settings.stream) == []


def test_no_worker_outlives_a_snapshot_that_is_killed(settings: Settings, postgres: Database) -> None:
    docs(postgres, 60_000)
    with producing_until_caught_up(settings, postgres):
        command = [sys.executable, "-m", "cdcctl.main", "producer", "backfill", "docs", "--rate", "1000/s"]
        with subprocess.Popen(command, env={**os.environ, **environ_of(settings)}) as fill:
            wait_until(lambda: len(readers(settings.stream)) == 2, 30, "two workers read")
            fill.kill()
        wait_until(lambda: not readers(settings.stream), 30, "the workers end")


def test_a_snapshot_that_is_stopped_at_once_stops(settings: Settings, postgres: Database) -> None:
    docs(postgres, 60_000)
    with producing_until_caught_up(settings, postgres):
        figures, done = backfill(settings, BackfillRequest(select_tables(settings, ["docs"])), lambda: True, SILENT)
        assert (figures.rows, done) == (0, False)
        _, done = backfill(settings, BackfillRequest(select_tables(settings, ["docs"])), NEVER, SILENT)
        assert done


def test_only_the_requested_tables(settings: Settings, postgres: Database) -> None:
    docs(postgres, 100)
    postgres.run("CREATE TABLE keyless (a integer, b text)", "INSERT INTO keyless VALUES (1, 'x'), (1, 'x'), (2, NULL)")
    with pytest.raises(SlotLost, match="there is no slot"):
        backfill(settings, BackfillRequest([Table("public", "docs")]), NEVER, SILENT)
    with producing_until_caught_up(settings, postgres):
        backfill(
            settings, BackfillRequest(select_tables(settings, ["public.d*"]), "id > 90 -- and no more"), NEVER, SILENT
        )
        backfill(settings, BackfillRequest(select_tables(settings, ["keyless"])), NEVER, SILENT)
        for wrong, said in (("id > 'x'", "does not fit"), ("1) OR (1", "does not fit")):
            with contextlib.suppress(AssertionError), pytest.raises(UsageError, match=said):
                backfill(settings, BackfillRequest(select_tables(settings, ["docs"]), wrong), NEVER, SILENT)
        with pytest.raises(UsageError, match="no published table is called 'nothing'"):
            select_tables(settings, ["nothing"])
    found = read_changes(settings)
    assert sorted(one.key["id"] for one in found if one.table.name == "docs") == list(range(91, 101))  # type: ignore[type-var]
    assert [one.after for one in found if one.table.name == "keyless"].count({"a": 1, "b": "x"}) == 2


def test_a_watermark_lies_below_every_change_that_its_snapshot_does_not_see(postgres: Database) -> None:
    docs(postgres, 10)
    with (
        closing(Source(postgres.dsn)) as reader, closing(Source(postgres.dsn)) as writer,
        closing(psycopg2.connect(postgres.dsn)) as late,
    ):  # fmt: skip
        marks = Watermarks()
        first = begin_snapshot(reader, marks, "first", NEVER)
        reader.query("COMMIT")
        with late.cursor() as cursor:
            cursor.execute("UPDATE docs SET n = 1 WHERE id = 1")  # has its transaction id from now on
        second = begin_snapshot(reader, marks, "second", NEVER)
        [(seen,)] = reader.query("SELECT n FROM docs WHERE id = 1")
        reader.query("COMMIT")
        assert first is not None
        assert second is first, "the open transaction might commit below a newer one"
        [(before,)] = writer.query("SELECT pg_current_wal_insert_lsn()")
        late.commit()
        assert seen == 0
        assert first.lsn < Lsn.parse(before)
        third = begin_snapshot(reader, marks, "third", NEVER)
        assert third is not None
        assert third.lsn > Lsn.parse(before)
        assert first.lsn % 8 == third.lsn % 8 == 7, "inside a record: no commit begins there"


def test_a_transaction_that_was_open_before_is_waited_for(postgres: Database) -> None:
    docs(postgres, 10)
    with closing(Source(postgres.dsn)) as reader, closing(psycopg2.connect(postgres.dsn)) as early:
        with early.cursor() as cursor:
            cursor.execute("UPDATE docs SET n = 1 WHERE id = 1")
        looks = iter(range(5))
        assert begin_snapshot(reader, Watermarks(), "waits", lambda: next(looks, None) is None) is None
        early.commit()
        assert begin_snapshot(reader, Watermarks(), "no more", NEVER) is not None


def counted(source: Source, relation: SizedRelation, part: KeyRange) -> int:
    return int(source.query(f"SELECT count(*) FROM {relation.table} WHERE {range_condition(relation, part)}")[0][0])


def test_ranges_are_the_whole_table_and_about_even(postgres: Database) -> None:
    postgres.run(
        'CREATE TABLE "odd %" (kind text COLLATE "C", "no" numeric, PRIMARY KEY ("no", kind))',
        """INSERT INTO "odd %" SELECT 'it''s \\ ' || i % 3, i / 7.0 FROM generate_series(1, 20000) i""",
    )
    postgres.run("ANALYZE")
    with closing(Source(postgres.dsn)) as source:
        [relation] = relations(source, lambda table: table.name == "odd %")
        counts = [counted(source, relation, part) for part in split_table(source, relation, 1_000)]
        keyless = msgspec.structs.replace(relation, primary_key=())
        pages = [counted(source, keyless, part) for part in split_table(source, keyless, 5_000)]
        assert split_table(source, relation, 1_000_000) == [WHOLE_TABLE]
    assert sum(counts) == sum(pages) == 20_000
    assert len(counts) > 10
    assert max(counts) < 4_000
    assert len(pages) > 1


def test_one_process_at_a_time_and_a_cut_off_line_is_no_line(tmp_path: Path) -> None:
    path = tmp_path / "fills" / "one.progress"
    progress = SnapshotCheckpoint(path)
    progress.begin(Plan(1, []))
    progress.finished(0, 3, 17)
    with pytest.raises(UsageError, match="already running"):
        SnapshotCheckpoint(path)
    progress.close()
    with path.open("ab") as file:
        file.write(b"[0,4,")
    again = SnapshotCheckpoint(path)
    assert dict(again.done) == {(0, 3): 17}
    again.finished(0, 4, 20)
    again.close()
    last = SnapshotCheckpoint(path)
    assert dict(last.done) == {(0, 3): 17, (0, 4): 20}
    last.close()


def test_repair_publishes_rows_and_deletions_that_newer_changes_win_over(
    settings: Settings, postgres: Database, tmp_path: Path
) -> None:
    postgres.run(
        "CREATE TABLE odd (a bytea, b text, v integer, PRIMARY KEY (a, b))",
        r"INSERT INTO odd VALUES ('\x00ff', 'q\"''', 1), ('\x01', 'x', 2)",
    )
    postgres.run(f"SELECT pg_create_logical_replication_slot('{postgres.slot}', 'wal2json')")
    keys = ['["00ff","q\\\\\\"\'"]', '["01","x"]', '["02","gone"]']
    with producing_until_caught_up(settings, postgres):
        assert republish(settings, Table("public", "odd"), keys) == RepublishResult(2, 1)
        postgres.run(r"INSERT INTO odd VALUES ('\x02', 'gone', 3)")
    found = read_changes(settings)
    assert [one.key_text for one in found if read(one) == "repair" and one.op is Op.DELETE] == [keys[2]]
    assert {one.key_text for one in found} == set(keys)
    filled(settings, tmp_path / "shadow")
    assert differences(settings, tmp_path / "shadow") == []


SECRETS = ("planted-ann@example.com", "planted-4711 0815", "planted diagnosis")
MASKS = "public.users.email=hash,public.users.phone=last4,users.notes=redact,orders.email=hash,public.users.big=null"


def test_no_planted_value_is_found_anywhere_outside_the_database(
    settings: Settings, postgres: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    settings = replace(settings, mask=MASKS, oversize=(tmp_path / "big").as_uri(), dead_letters=str(tmp_path / "dlq"))
    mail, phone, note = SECRETS
    postgres.run(
        "CREATE TABLE users (email text PRIMARY KEY, phone text, notes text, big text, noise text)",
        "ALTER TABLE users REPLICA IDENTITY FULL",
        "CREATE TABLE orders (id integer PRIMARY KEY, email varchar(100))",
        f"INSERT INTO users VALUES ('{mail}', '{phone}', '{note}', repeat('{note}', 10), 'n')",
        f"INSERT INTO users SELECT i || '{mail}', '{phone}', '{note}', '{note}', 'n' FROM generate_series(1, 20) i",
        f"INSERT INTO orders VALUES (1, '{mail}')",
    )
    with producing_until_caught_up(settings, postgres, snapshot=True):
        noise = "(SELECT string_agg(md5(i::text || random()), '') FROM generate_series(1, 70000) i)"
        first, moved = f"WHERE email = '{mail}'", f"SET email = 'x{mail}', noise = {noise}"
        postgres.run(f"UPDATE users SET noise = {noise} {first}", f"UPDATE users {moved} {first}")
        postgres.run(f"UPDATE users SET email = '{mail}', noise = 'n' WHERE email = 'x{mail}'")
        postgres.run(
            f"INSERT INTO users VALUES ('other-{mail}', '{phone}')", f"DELETE FROM users WHERE email = 'other-{mail}'"
        )
        backfill(settings, BackfillRequest(select_tables(settings, [])), NEVER, SILENT)
        with pytest.raises(CdcError, match="masked"):
            republish(settings, Table("public", "users"), [f'["{mail}"]'])
    pages = StreamReader(settings.stream, EARLIEST, stop_when_caught_up=True).pages()
    records = [record for page in pages for record in page.records]
    assert len(records) > 8
    assert any(record.sub_sequence_number for record in records), "some went folded"
    letters = filled(settings, tmp_path / "shadow")
    assert letters == {name: [] for name in SATELLITES}
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.suffix == ".gz" for path in kept)
    texts: dict[str, bytes] = {str(path): _opened(path) for path in kept}
    texts |= {
        f"record {at}": decompress(record.data) + record.partition_key.encode() for at, record in enumerate(records)
    }
    texts["log"] = caplog.text.encode()
    for secret in SECRETS:
        assert [name for name, text in texts.items() if secret.encode() in text] == []
    changes = read_changes(settings)
    hashes = {str(one.after["email"]) for one in changes if one.after and one.after.get("email")}
    assert len(hashes) == 3 + 20, "each mail has one hash in every table"


def _opened(path: Path) -> bytes:
    import gzip

    data = path.read_bytes()
    return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data


@pytest.mark.timeout(scale(300, 3600))
def test_large_changes_keep_their_order(settings: Settings, postgres: Database, tmp_path: Path) -> None:
    """Must hold 4: changes of 1–9 MiB that do not compress, of the same keys as small ones."""
    large, small = scale(6, 200), scale(300, 10_000)
    settings = replace(settings, oversize=(tmp_path / "big").as_uri())
    postgres.run("CREATE TABLE docs (id integer PRIMARY KEY, n integer, body text)")
    postgres.run("INSERT INTO docs SELECT i, 0, 'small' FROM generate_series(1, 50) i")
    postgres.run(f"SELECT pg_create_logical_replication_slot('{postgres.slot}', 'wal2json')")
    postgres.run("ALTER TABLE docs ALTER body SET STORAGE EXTERNAL")
    with producing_until_caught_up(settings, postgres):
        backfill(settings, BackfillRequest(select_tables(settings, [])), NEVER, SILENT)
        every = max(1, small // large)
        with closing(psycopg2.connect(postgres.dsn)) as connection:
            for number in range(1, small + 1):
                body = f"'small {number}'"
                if number % every == 0:
                    lines = (1 + number // every % 9) * 1024 * 1024 // 32
                    body = f"(SELECT string_agg(md5(i::text || {number}), '') FROM generate_series(1, {lines}) i)"
                with connection, connection.cursor() as cursor:
                    cursor.execute(f"UPDATE docs SET n = {number}, body = {body} WHERE id = 1 + {number} % 50")
    by_key: dict[Any, list[int]] = {}
    for change in read_changes(settings):
        if change.op is Op.UPDATE and change.after is not None:
            by_key.setdefault(change.key["id"], []).append(int(str(change.after["n"])))
    assert sum(map(len, by_key.values())) == small
    assert all(numbers == sorted(numbers) for numbers in by_key.values())
    assert len(list((tmp_path / "big").rglob("*.gz"))) >= large * 8 // 9 - 1
    letters = filled(settings, tmp_path / "shadow")
    assert letters == {name: [] for name in SATELLITES}
    assert differences(settings, tmp_path / "shadow") == []
