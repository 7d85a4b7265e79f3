"""Every built-in type with its edge values: DuckDB and pyarrow read from the lake what PostgreSQL has."""

import json
import math
import re
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC as UTC_ZONE
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg2
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cdcctl.sandbox import postgres as stack
from cdckit.change import Table
from cdckit.sink import SinkContext
from cdckit.testing import deliver
from consumers.parquet.read.current_rows import current_rows
from consumers.parquet.read.query import connect
from consumers.parquet.sink import open_sink
from tests.support.postgres import Database
from tests.support.wal_stream import WalStream

pytestmark = pytest.mark.integration
SHARD = "shardId-000000000000"


@dataclass(frozen=True)
class Case:
    """A type, the Arrow type that its column must have in the lake, and its edge values as SQL."""

    type: str
    arrow: Any
    values: Sequence[str]


TEXT = pa.string()
UTC = pa.timestamp("us", "UTC")
NAIVE = pa.timestamp("us")


def texts(type_name: str, *values: str) -> Case:
    return Case(type_name, TEXT, [f"'{value}'" for value in values])


def listed(type_name: str, element: Any, *values: str) -> Case:
    return Case(type_name, pa.list_(pa.field("element", element)), [f"'{value}'" for value in values])


CASES = [
    Case("smallint", pa.int16(), ["0", "'-32768'", "32767"]),
    Case("integer", pa.int32(), ["0", "'-2147483648'", "2147483647"]),
    Case("bigint", pa.int64(), ["0", "'-9223372036854775808'", "9223372036854775807"]),
    Case("oid", pa.int64(), ["0", "4294967295"]),
    Case("boolean", pa.bool_(), ["true", "false"]),
    Case("real", pa.float32(), ["0", "1.1", "3.4028235e38", "-1.17549435e-38", "1e-45", "0.1", "123456789"]),
    Case("double precision", pa.float64(),
         ["0", "0.1", "1.7976931348623157e308", "2.2250738585072014e-308", "5e-324", "1e15", "123456789012345678"]),
    Case("numeric", TEXT,
         ["0", "0.00", "1.10", "-12345678901234567890.123456789", "1e-30", "1e40", "1234567890123456789012", "9" * 99]),
    Case("numeric(10,2)", pa.decimal128(10, 2), ["0", "-0.01", "99999999.99", "-99999999.99", "1.5"]),
    Case("numeric(38,10)", pa.decimal128(38, 10), ["0", "9999999999999999999999999999.9999999999", "-0.0000000001"]),
    Case("numeric(20)", pa.decimal128(20, 0), ["0", "99999999999999999999"]),
    Case("numeric(39,2)", TEXT, ["0", "9999999999999999999999999999999999999.99", "-0.01"]),
    Case("numeric(5,-2)", TEXT, ["0", "9999900", "-100"]),
    Case("numeric(3,5)", TEXT, ["0", "0.00999", "-0.00001"]),
    texts("money", "0", "-92233720368547758.08", "92233720368547758.07"),
    texts("text", "", " ", "x", "ünï 🦊", "a\nb\tc\\d", '"quoted"', "''", "{1,2}", "null", "NULL", "x" * 5000),
    texts("character varying(10)", "", "0123456789", " pad "),
    texts("character(5)", "", "ab", "abcde"),
    texts('"char"', "a", ""),
    texts("name", "a name", "n" * 63),
    Case("bytea", pa.binary(), ["''", r"'\x00'", r"'\xdeadbeef'", r"'\x5c27'"]),
    Case("date", pa.date32(),
         ["'2026-11-24'", "'0001-01-01'", "'9999-12-31'", "'4713-01-01 BC'", "'5874897-12-31'",
          "'infinity'", "'-infinity'"]),
    Case("timestamp without time zone", NAIVE,
         ["'2026-11-24 01:02:03.000001'", "'0001-01-01'", "'9999-12-31 23:59:59.999999'", "'4713-01-01 BC'",
          "'294276-12-31 23:59:59.999999'", "'infinity'", "'-infinity'"]),
    Case("timestamp(0) without time zone", NAIVE, ["'2026-11-24 01:02:03.6'"]),
    Case("timestamp with time zone", UTC,
         ["'2026-11-24 01:02:03.000001+02'", "'0001-01-01 00:00:00+00'", "'9999-12-31 23:59:59.999999+00'",
          "'1890-01-01 00:00:00+00:19:32'", "'4713-01-01 BC'", "'294276-12-31 23:59:59.999999+00'",
          "'infinity'", "'-infinity'"]),
    Case("timestamp(3) with time zone", UTC, ["'2026-11-24 01:02:03.1239+02'"]),
    texts("time without time zone", "00:00:00", "23:59:59.999999", "24:00:00", "01:02:03.1"),
    texts("time(3) without time zone", "01:02:03.1239"),
    texts("time with time zone", "00:00:00+00", "23:59:59.999999-15:59", "24:00:00+14"),
    texts("interval", "0", "1 year 2 mons -3 days 04:05:06.789", "-178000000 years", "-00:00:00.000001", "999:00:00"),
    texts("interval year to month", "1 year 2 mons"),
    texts("interval day to second(3)", "1 day 01:02:03.1239"),
    texts("uuid", "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"),
    texts("json", "{}", '{"b": 1, "a": [1, 2.50, null]}', '"text"', "null", "1e400", "[]"),
    texts("jsonb", "{}", '{"b": 1, "a": [1, 2.50, null]}', '"text"', "null", "123456789012345678901234567890.10", "[]"),
    texts("jsonpath", "$.a[*] ? (@ > 2)"),
    texts("xml", "<a b=\"c\">d</a>"),
    texts("inet", "192.168.0.1/24", "::1", "10.0.0.1"),
    texts("cidr", "192.168.0.0/24", "2001:db8::/32"),
    texts("macaddr", "08:00:2b:01:02:03"),
    texts("macaddr8", "08:00:2b:01:02:03:04:05"),
    texts("bit(3)", "101", "000"),
    texts("bit varying(5)", "", "10101"),
    texts("point", "(1.5,-2)", "(1e300,1e-300)"),
    texts("line", "{1,2,3}"),
    texts("lseg", "[(0,0),(1,1)]"),
    texts("box", "((1,1),(0,0))"),
    texts("path", "[(0,0),(1,1)]", "((0,0),(1,1))"),
    texts("polygon", "((0,0),(1,1),(1,0))"),
    texts("circle", "<(0,0),1.5>"),
    texts("int4range", "empty", "[1,5)", "(,5)", "(,)"),
    texts("int8range", "[1,9223372036854775807)"),
    texts("numrange", "[1.10,2.2]"),
    texts("tsrange", "[2026-01-01 00:00:00,infinity)"),
    texts("tstzrange", "[2026-01-01 00:00:00+00,)"),
    texts("daterange", "[2026-01-01,2026-02-01)"),
    texts("int4multirange", "{}", "{[1,2),[5,9)}"),
    texts("tsvector", "a fat cat", "''quoted'':1A"),
    texts("tsquery", "fat & (rat | cat)"),
    texts("pg_lsn", "16/B374D848", "0/0"),
    texts("pg_snapshot", "10:20:10,14"),
    texts("xid", "4294967295"),
    texts("xid8", "18446744073709551615"),
    texts("cid", "7"),
    texts("tid", "(0,1)"),
    texts("regclass", "pg_class"),
    texts("regtype", "integer"),
    texts("mood", "sad", "happy", "it''s \"odd\""),
    texts("pair", "(1,)", '(2,"a,b")'),
    Case("small_text", TEXT, ["'abc'", "''"]),
    texts("percent", "99.99", "0.00"),
    listed("smallint[]", pa.int16(), "{}", "{1,NULL,-32768}"),
    listed("integer[]", pa.int32(), "{}", "{1,NULL,2}", "{NULL}"),
    listed("bigint[]", pa.int64(), "{9223372036854775807}"),
    listed("boolean[]", pa.bool_(), "{t,f,NULL}"),
    listed("real[]", pa.float32(), "{1.5,NULL,NaN,Infinity,-Infinity,1e-10,1e+20,-0}"),
    listed("double precision[]", pa.float64(), "{0.1,NaN,Infinity,1e+300,-0,123456789012345680}"),
    listed("numeric[]", TEXT, "{1.10,NULL,0.00}", "{NaN}"),
    listed("numeric(10,2)[]", pa.decimal128(10, 2), "{1.10,NULL,0.00}"),
    listed("text[]", TEXT, "{}", '{a,"b,c","",NULL,"NULL","x\\\\y","q\\"q",ünï,"{}"}'),
    listed("character varying(5)[]", TEXT, "{ab,NULL}"),
    listed("uuid[]", TEXT, "{00000000-0000-0000-0000-000000000000,NULL}"),
    listed("bytea[]", pa.binary(), r'{"\\xdead","\\x",NULL}'),
    listed("date[]", pa.date32(), "{2026-11-24,NULL}"),
    listed("timestamp without time zone[]", NAIVE, '{"2026-11-24 01:02:03.5",NULL}'),
    listed("timestamp with time zone[]", UTC, '{"2026-11-24 01:02:03+00",NULL}'),
    listed("time without time zone[]", TEXT, "{01:02:03}"),
    listed("interval[]", TEXT, '{"1 day"}'),
    listed("jsonb[]", TEXT, '{"{\\"a\\": 1}",NULL}'),
    listed("mood[]", TEXT, "{sad,NULL,happy}"),
    listed("int4range[]", TEXT, '{"[1,2)",empty}'),
    listed("point[]", TEXT, '{"(1,2)"}'),
    texts("box[]", "{(1,1),(0,0);(2,2),(1,1)}"),
]  # fmt: skip
UNFIT = [
    # of the column's type, yet no value of Delta's: other dimensions and bounds, infinities within a list
    ("integer[]", "{{1,2},{3,4}}"),
    ("integer[]", "[0:1]={1,2}"),
    ("text[]", "{{a},{b}}"),
    ("date[]", "{infinity,2026-01-01}"),
    ("timestamp with time zone[]", '{"4713-01-01 00:00:00+00 BC"}'),
]
NAMES = {case.type: f"t{number}" for number, case in enumerate(CASES)}


@dataclass(frozen=True)
class Cell:
    """One of PostgreSQL's values: its own text and, of an array, the texts of the elements."""

    text: str | None
    elements: list[str | None] | None = None


@dataclass(frozen=True)
class FilledLake:
    """A lake that one sink wrote, and a connection to PostgreSQL for the expected values."""

    folder: Path
    oracle: Any
    duckdb: Any

    def cells(self, case: Case) -> list[Cell]:
        """The column's cells in the order of ids; none of this shares a line of code with the lake."""
        elements = "v::text[]" if case.type.endswith("[]") else "NULL"
        with self.oracle.cursor() as cursor:
            cursor.execute(
                f"SELECT CASE WHEN id > 0 THEN format('%s', v) END, {elements} FROM {NAMES[case.type]} ORDER BY id"
            )
            return [Cell(*row) for row in cursor.fetchall()]


@pytest.fixture(scope="module")
def lake(cluster: stack.Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FilledLake]:
    """One table per type, all of them followed by one slot and written by one sink."""
    folder = tmp_path_factory.mktemp("lake")
    admin = psycopg2.connect(cluster.dsn)
    admin.autocommit = True
    admin.cursor().execute("CREATE DATABASE types")
    dsn = cluster.dsn.replace(f"/{stack.DATABASE}", "/types")
    stream = WalStream(dsn, "types")
    for statement in statements():
        stream.source.query(statement)
    changes = stream.changes()
    assert deliver(open_sink(SinkContext("parquet", SHARD, folder, {})), *changes).applied == len(changes)
    oracle = psycopg2.connect(dsn, options="-c timezone=UTC -c extra_float_digits=3")
    yield FilledLake(folder, oracle, connect(folder))
    oracle.close()
    stream.source.query("SELECT pg_drop_replication_slot('types')")
    stream.close()
    admin.cursor().execute("DROP DATABASE types WITH (FORCE)")
    admin.close()


def statements() -> Iterator[str]:
    yield "CREATE TYPE mood AS ENUM ('sad', 'happy', 'it''s \"odd\"')"
    yield "CREATE TYPE pair AS (a int, b text)"
    yield "CREATE DOMAIN small_text AS varchar(5)"
    yield "CREATE DOMAIN percent AS numeric(5,2)"
    for case in CASES:
        name = NAMES[case.type]
        yield f"CREATE TABLE {name} (id int PRIMARY KEY, v {case.type})"
        unfit = [f"'{value}'" for kind, value in UNFIT if kind == case.type]
        for number, value in enumerate(["NULL", *case.values, *unfit]):
            yield f"INSERT INTO {name} VALUES ({number}, {value}::{case.type})"


EACH = pytest.mark.parametrize("case", CASES, ids=lambda case: case.type)


@EACH
def test_the_rows_have_postgresqls_texts(lake: FilledLake, case: Case) -> None:
    rows = dict(current_rows(lake.folder, "main", Table("public", NAMES[case.type])))
    cells = lake.cells(case)
    assert len(rows) == len(cells)
    for number, cell in enumerate(cells):
        value = rows[f"[{number}]"]["v"]
        assert same(bytes.fromhex(str(value)) if case.type == "bytea" and value is not None else value, cell), cell


@EACH
def test_pyarrow_reads_the_plain_files(lake: FilledLake, case: Case) -> None:
    files = list((lake.folder / "main" / "public" / NAMES[case.type]).rglob("*.parquet"))
    read = pa.concat_tables([pq.ParquetFile(file).read() for file in files]).sort_by("id")
    assert read.schema.field("v").type == case.arrow
    cells = lake.cells(case)
    for value, exact, cell in zip(read["v"].to_pylist(), read["_exact"].to_pylist(), cells, strict=True):
        if exact is None:
            assert same(value, cell), cell
        else:
            assert value is None
            assert json.loads(exact) == {"v": cell.text}
            assert (case.type, cell.text) in UNFIT or re.search(r"infinity|BC|29427|587489", str(cell.text))


@EACH
def test_duckdb_shows_sql_values_or_the_exact_text(lake: FilledLake, case: Case) -> None:
    view = lake.duckdb.table(NAMES[case.type])
    kind = str(view.types[view.columns.index("v")])
    by_text = re.match("DATE|TIME|INTERVAL|UUID", kind) and not kind.endswith("[]")
    exact = "_exact" if "_exact" in view.columns else "MAP {}"
    read = view.order("id").project(f"{'v::VARCHAR' if by_text else 'v'} AS v, {exact} AS exact").to_arrow_table()
    for value, exact_text, cell in zip(read["v"].to_pylist(), read["exact"].to_pylist(), lake.cells(case), strict=True):
        if exact_text:
            assert (value, exact_text) == (None, [("v", cell.text)])
        elif by_text:
            assert value == (cell.text and as_duckdb_writes(cell.text))
        else:
            assert same(value, cell), cell


def as_duckdb_writes(text: str) -> str:
    """PostgreSQL's text of a moment or interval as DuckDB writes the same value."""
    text = re.sub(r"^(\S+)(.*) BC$", r"\1 (BC)\2", text)
    return re.sub(r"\bmon(s?)\b", r"month\1", text).replace(" +", " ")


def same(value: Any, cell: Cell) -> bool:
    """Whether a Python value from the lake is the one that PostgreSQL has."""
    if value is None or cell.text is None:
        return value is None and cell.text is None
    if isinstance(value, list):
        return all(same(item, Cell(text)) for item, text in zip(value, cell.elements or (), strict=True))
    if isinstance(value, float):
        return same_float(value, float(cell.text))
    return type(value) in _READERS and bool(_READERS[type(value)](cell.text) == value)


def same_float(mine: float, theirs: float) -> bool:
    return (
        math.isnan(theirs) if math.isnan(mine) else mine == theirs or struct.pack("f", mine) == struct.pack("f", theirs)
    )


def instant(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo is None else moment.astimezone(UTC_ZONE)


_READERS: Mapping[type, Callable[[str], Any]] = {
    str: str,
    bool: lambda text: {"t": True, "true": True, "f": False, "false": False}[text],
    int: int,
    Decimal: Decimal,
    bytes: lambda text: bytes.fromhex(text.removeprefix("\\x")),
    date: date.fromisoformat,
    datetime: instant,
    time: time.fromisoformat,
}


def test_what_wal2json_loses(postgres: Database, tmp_path: Path) -> None:
    """NaN and infinities of numbers come as null; a negative zero comes as 0. Nothing else is lost."""
    stream = WalStream(postgres.dsn, postgres.slot)
    postgres.run(
        "CREATE TABLE lost (id int PRIMARY KEY, n numeric, d double precision, z real)",
        "INSERT INTO lost VALUES (1, 'NaN', 'Infinity', '-0'), (2, '-Infinity', 'NaN', 0)",
    )
    deliver(open_sink(SinkContext("parquet", SHARD, tmp_path, {})), *stream.changes())
    stream.close()
    rows = connect(tmp_path).sql("SELECT n, d, z::VARCHAR FROM lost ORDER BY id").fetchall()
    assert rows == [(None, None, "0.0"), (None, None, "0.0")]


def test_a_deleted_row_keeps_its_key_and_an_updated_one_its_unchanged_toast(postgres: Database, tmp_path: Path) -> None:
    stream = WalStream(postgres.dsn, postgres.slot)
    long = "x" * 100_000
    postgres.run("CREATE TABLE docs (id int PRIMARY KEY, body text, n int)")
    postgres.run("ALTER TABLE docs ALTER body SET STORAGE EXTERNAL")
    postgres.run(f"INSERT INTO docs VALUES (1, '{long}', 1), (2, '{long}', 1), (3, 'short', 1)")
    postgres.run("UPDATE docs SET n = 2 WHERE id = 1")
    postgres.run("UPDATE docs SET body = NULL WHERE id = 2")
    postgres.run("DELETE FROM docs WHERE id = 3")
    deliver(open_sink(SinkContext("parquet", SHARD, tmp_path, {})), *stream.changes())
    stream.close()
    lake = connect(tmp_path)
    assert lake.sql("SELECT id, body, n FROM docs ORDER BY id").fetchall() == [(1, long, 2), (2, None, 1)]
    later = lake.sql("SELECT _op, id, body, _unchanged FROM docs_changes ORDER BY _position OFFSET 3").fetchall()
    assert later == [("U", 1, None, ["body"]), ("U", 2, None, []), ("D", 3, None, None)]
