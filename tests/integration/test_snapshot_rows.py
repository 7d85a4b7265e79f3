"""Rows that are read equal wal2json's inserts: the same names, types and values, to the last character."""

import gc
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import zip_longest
from typing import Any

import msgspec
import pytest

from cdckit.envelope import VERSION, Metadata, MetadataWriter, decode, decode_row
from cdckit.errors import UsageError
from producer.kinesis.batching.row_batch import RowBatch
from producer.masking.masker import Masker
from producer.masking.rules import parse_masks
from producer.postgres.catalog import relations
from producer.postgres.connection import Source
from producer.postgres.copy import MAX_LINES
from producer.records import partition_key
from producer.snapshot.copy_encoder import CopyEncoder, SnapshotContext
from tests.support.postgres import Database
from tests.support.wal_stream import WalStream

pytestmark = pytest.mark.integration
_SCHEMA = r"""
CREATE TYPE mood AS ENUM ('sad', 'it''s "ok"');
CREATE DOMAIN positive AS integer CHECK (value > 0);
CREATE TYPE pair AS (a int, b text);
CREATE TABLE "Odd ""T%b" (
  "I d" integer, "%b" bigint, small smallint, n numeric, n2 numeric(12,3), r real, d double precision, ok boolean, c char(8), vc varchar(20), t text, "char" "char", nm name, by bytea, ts timestamp, tz timestamptz, dt date, tm time, tmz timetz, iv interval, u uuid, j json, jb jsonb, x xml, ip inet, net cidr, mac macaddr, b3 bit(3), vb varbit, m mood, p positive, pr pair, ia int[], ta text[], nr numrange, tsr tstzrange, pt point, bx box, mo money, l pg_lsn, o oid, tsv tsvector, rc regclass,
  twice integer GENERATED ALWAYS AS (small * 2) STORED,
  PRIMARY KEY (t, "I d")
)
"""  # noqa: E501
_HOSTILE = r"""
INSERT INTO "Odd ""T%b" VALUES
(1, 9223372036854775807, -32768, 12345678901234567890.123456789012345678900, 1.500, 'NaN', 1e-300, true, 'ab', E'a\\b', E'q"\\\t\n\r\b\f\x0b\x01\x1f\x7f%b%%\\N ünïcode 🙂 </script>', 'q', 'a"b', '\x00ff22', '2026-11-24 10:00:00.120', '2026-11-24 10:00:00.5+05:30', '0044-03-15 BC', '24:00:00', '10:00:00.5+02', '1 year -2 days 03:00:00.5', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{"a": "q\"\n", "b":1.50}', '{"a":[1,null,"\\u0000x\\t"]}'::text::jsonb, '<a b="1">t</a>', '10.0.0.1', '10.0.0.0/8', '08:00:2b:01:02:03', '101', '10101', 'it''s "ok"', 5, ROW(1, E'x"\\,y'), '{1,NULL,3}', '{"a,b","NULL",NULL,"q\"\\x"}', '[1.5,2)', '[2026-01-01,infinity)', '(1.5,-2)', '(1,1),(0,0)', 12.34, '16/B374D848', 4294967295, 'a fat:1A cat''s:2', 'pg_class'),
(2, NULL, NULL, 'Infinity', 'NaN', '-Infinity', 'Infinity', false, '', '', E'\\N', '', '', '', '-infinity', 'infinity', 'infinity', '00:00', '00:00+00', '0', NULL, 'null', 'null', '', '::1/64', '::/0', NULL, NULL, '', NULL, NULL, NULL, '{}', '{{"a"},{"b"}}', 'empty', NULL, NULL, NULL, -0.01, '0/0', 0, '', NULL),
(-3, 0, 0, 0.000, -0.100, -0, 1.1, NULL, NULL, NULL, E'\\', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)
"""  # noqa: E501


def image_of(source: Source, name: str, masks: str = "") -> CopyEncoder:
    [relation] = relations(source, lambda table: table.name == name)
    return CopyEncoder(relation, "main", Masker(parse_masks(masks), b"k" * 32))


def read(source: Source, image: CopyEncoder, where: str = "true") -> list[bytes]:
    lines = list[bytes]()
    source.copy(f"SELECT {image.select} FROM ONLY {image.relation.table} WHERE {where}", lines.extend)
    return lines


def under() -> SnapshotContext:
    stamp = Metadata(VERSION, 1, "", 0, "main", "7", 1, "cdc", {"read": "snapshot"})
    return SnapshotContext(MetadataWriter(stamp), "0/17", "2026-11-24 10:00:00+00")


def contents(payload: bytes) -> dict[str, Any]:
    """Return what a wal2json record contains, values as their exact text."""
    parts = msgspec.json.decode(payload, type=dict[str, msgspec.Raw])
    return {
        name: [
            {key: bytes(value) for key, value in column.items()}
            for column in msgspec.json.decode(parts[name], type=list[dict[str, msgspec.Raw]])
        ]
        for name in ("columns", "pk")
        if name in parts
    } | {name: bytes(parts[name]) for name in ("action", "schema", "table")}


@pytest.fixture
def source(postgres: Database) -> Iterator[Source]:
    with closing(Source(postgres.dsn)) as made:
        yield made


@pytest.mark.parametrize("key", ["pk", "none", "full"])
def test_every_type_is_encoded_as_wal2json_does(postgres: Database, source: Source, key: str) -> None:
    postgres.run(_SCHEMA)
    if key != "pk":
        postgres.run('ALTER TABLE "Odd ""T%b" DROP CONSTRAINT "Odd ""T%b_pkey"')
    if key == "full":
        postgres.run('ALTER TABLE "Odd ""T%b" REPLICA IDENTITY FULL')
    stream = WalStream(postgres.dsn, postgres.slot)
    postgres.run(_HOSTILE)
    changes = stream.records()
    stream.close()
    image = image_of(source, 'Odd "T%b')
    lines = read(source, image)
    assert len(changes) == len(lines) == 3
    for change, line in zip(changes, image.rows(lines, under(), 0).lines(), strict=True):
        mine, wal2json = contents(line), contents(change)
        assert [pair for pair in zip_longest(mine.pop("columns"), wal2json.pop("columns")) if pair[0] != pair[1]] == []
        assert mine == wal2json
    for change, record in zip(changes, image.rows(lines, under(), 7).records(), strict=True):
        from_log, from_row = decode(change), decode(record.data)
        assert (from_row.key_text, from_row.after, from_row.types) == (
            from_log.key_text, from_log.after, from_log.types,
        )  # fmt: skip
        assert from_row.annotation == {"read": "snapshot"}
        assert str(from_row.position).startswith("1:0/17:")
    positions = [decode(record.data).position.index for record in image.rows(lines, under(), 7).records()]
    assert positions == [7, 8, 9]


@pytest.mark.parametrize("rule", ["hash", "redact", "null", "last4"])
def test_every_type_is_masked_as_in_the_changes(postgres: Database, source: Source, rule: str) -> None:
    postgres.run(_SCHEMA)
    if rule != "hash":
        with pytest.raises(UsageError, match="part of the key"):
            image_of(source, 'Odd "T%b', f"*.*.*={rule}")
        postgres.run('ALTER TABLE "Odd ""T%b" DROP CONSTRAINT "Odd ""T%b_pkey"')
    stream = WalStream(postgres.dsn, postgres.slot)
    postgres.run(_HOSTILE)
    masks = Masker(parse_masks(f"*.*.*={rule}"), b"k" * 32)
    changes = [masks.mask_payload(change) for change in stream.records()]
    stream.close()
    image = image_of(source, 'Odd "T%b', f"*.*.*={rule}")
    lines = image.rows(read(source, image), under(), 0).lines()
    assert len(changes) == len(lines) == 3
    assert [contents(line) for line in lines] == [contents(change) for change in changes]


def test_a_masked_column_that_is_gone_stops_the_reading(postgres: Database, source: Source) -> None:
    postgres.run("CREATE TABLE keyed (id integer PRIMARY KEY, renamed text)")
    with pytest.raises(UsageError, match="has no column name any more"):
        image_of(source, "keyed", "keyed.name=hash")


@pytest.mark.parametrize("masks", ["", "keyed.name=hash,keyed.n=hash,keyed.f=hash", "keyed.other=null,keyed.id=hash"])
@pytest.mark.parametrize("identity", ["PRIMARY KEY (name, f, n)", "PRIMARY KEY (id)", "CHECK (id > 0)"])
def test_rows_have_the_partition_keys_of_their_changes_also_when_they_are_unfolded(
    postgres: Database, source: Source, identity: str, masks: str
) -> None:
    postgres.run(
        f"CREATE TABLE keyed (id integer, name text, f double precision, n numeric, other text, {identity})",
        "INSERT INTO keyed VALUES (1, 'plain', 1.5, 1.50, NULL), (2, E'q\"\\\\\t\nü', 'NaN', 'NaN', ''), "
        "(3, repeat('long', 100), '-Infinity', 1e30, NULL), (4, '', 1e-300, 0.000, E'\\\\N')",
    )
    image = image_of(source, "keyed", masks)
    rows = image.rows(read(source, image), under(), 0)
    changes = [decode(line) for line in rows.lines()]
    pk = bool(decode_row(rows.lines()[0]).pk)
    keys = [partition_key("main", one.table, one.key if pk else None).encode() for one in changes]
    assert list(rows.keys()) == keys
    assert len(set(keys)) == (4 if pk else 1)
    assert list(RowBatch.from_records([line[:-1] for line in rows.lines()]).keys()) == keys
    first, rest = rows.halves()
    assert [*first.keys(), *rest.keys()] == keys


def test_copy_hands_whole_lines_over_and_none_after_an_error(postgres: Database) -> None:
    postgres.run(
        "CREATE TABLE wide (id integer PRIMARY KEY, body text)",
        "INSERT INTO wide SELECT i, repeat(chr(97 + i % 26), (i * 7919) % 3000) FROM generate_series(1, 6000) i",
        "INSERT INTO wide SELECT 6000 + i, repeat('big', 500000) FROM generate_series(1, 3) i",
    )
    query = "SELECT id, length(body), body FROM wide ORDER BY id"
    with closing(Source(postgres.dsn)) as source:
        batches = list[Sequence[bytes]]()
        source.copy(query, batches.append)
        assert max(map(len, batches)) <= MAX_LINES
        columns = [line.split(b"\t") for batch in batches for line in batch]
        assert [int(number) for number, _, _ in columns] == list(range(1, 6004))
        assert all(int(length) == len(body) - 1 and body.endswith(b"\n") for _, length, body in columns)

    class Enough(Exception):
        pass

    calls = list[int]()

    def third_fails(lines: Sequence[bytes]) -> None:
        calls.append(len(lines))
        if len(calls) == 3:
            raise Enough

    with closing(Source(postgres.dsn)) as source, pytest.raises(Enough):
        source.copy("SELECT i FROM generate_series(1, 100000) i", third_fails)
    gc.collect()
    assert len(calls) == 3
