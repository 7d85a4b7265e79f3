"""Every change that can be decoded is stored with its exact values, or is a PoisonChange; nothing crashes."""

import json
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cdckit.change import Change, Table
from cdckit.envelope import decode
from cdckit.errors import EnvelopeError, PoisonChange
from cdckit.sink import Outcome, SinkContext
from cdckit.testing import batch, deliver
from consumers.parquet.read.current_rows import current_rows
from consumers.parquet.read.query import connect
from consumers.parquet.sink import open_sink

TYPES = [
    "smallint", "integer", "bigint", "oid", "boolean", "real", "double precision", "numeric", "numeric(10,2)", "date",
    "numeric(0,0)", "numeric(38,38)", "numeric(99999,1)", "timestamp without time zone", "timestamp with time zone",
    "timestamp(3) with time zone", "bytea", "uuid", "jsonb", "time without time zone", "interval", "text", "", "[]",
    "integer[]", "text[]", "boolean[]", "bytea[]", "timestamp with time zone[]", "numeric(10,2)[]",
    "int[][]" + "[]" * 500,     "double precision[]", "box[]",
]  # fmt: skip
TEXTS = [
    "", "infinity", "2026-11-24", "2026-11-24 01:02:03+00", "24:00:00", "{}", "{1,2}", "{NULL}", "{{1},{2}}", "{t,f}",
    "{1.10}", "[0:1]={1,2}", "{", '{"a', "{a,}", "NaN", "dead", "0xff", "\x00", "1e400", "١", "-",
    '{"2026-01-01 00:00:00+00"}',
    '{"\\\\xdead"}', "{1e999}", "{NaN,Infinity}", "0001-01-01 00:00:00+23:59", "99999-01-01",
]  # fmt: skip
NUMBERS = ["0", "-0", "1", "1.10", "-32769", "2147483648", "1e3", "1e-7", "1" * 30, "9" * 45, "1e999999999", "0.1e-400"]
ROUNDING = (
    "real",
    "double",
    "date",
    "time",
    "bytea",
    "numeric(10",
    "text[]",
    "[]",
    "integer[]",
    "boolean[]",
    "numeric(38",
)
"""Types whose values have several texts (or are rounded): the lake may return another text of the same value."""
scalars = st.one_of(
    st.none(), st.booleans(), st.sampled_from(TEXTS), st.text(max_size=6), st.sampled_from(NUMBERS).map(Decimal),
    st.integers(-(2**70), 2**70), st.lists(st.integers(), max_size=2), st.just({"a": 1}),
)  # fmt: skip


def as_json(value: object) -> str:
    return str(value) if isinstance(value, Decimal) else json.dumps(value)


def record(columns: list[tuple[str, str, object]], at: int, **changed: object) -> bytes:
    cells = ",".join(
        f'{{"name":{json.dumps(name)},"type":{json.dumps(kind)},"value":{as_json(value)}}}'
        for name, kind, value in columns
    )
    cdc = {"v": 1, "epoch": 1, "commit_lsn": "0/10", "index": at, "source": "main", **changed}
    return (
        f'{{"action":"I","timestamp":"2026-11-24 04:14:15+00","schema":"public","table":"t","columns":['
        f'{{"name":"id","type":"integer","value":{at}}},{cells}],"pk":[{{"name":"id","type":"integer"}}],'
        f'"cdc":{json.dumps(cdc)}}}'
    ).encode()


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(TYPES), scalars), min_size=1, max_size=3,
                         unique_by=lambda cell: cell[0]), min_size=1, max_size=12))  # fmt: skip
def test_values_that_do_not_fit_their_type_are_stored(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[tuple[str, str, object]]]
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    changes = [decode(record(columns, at)) for at, columns in enumerate(rows)]
    sink = open_sink(SinkContext("parquet", "shard", folder, {"compact": False}))
    assert deliver(sink, *changes) == Outcome(applied=len(changes))
    found = dict(current_rows(folder, "main", Table("public", "t")))
    for at, change in enumerate(changes):
        assert found[f"[{at}]"].keys() == (change.after or {}).keys()
        assert {name for name, value in (change.after or {}).items() if value is None} <= {
            name for name, value in found[f"[{at}]"].items() if value is None
        }
        for name, kind, value in rows[at]:
            if not kind.startswith(ROUNDING) and isinstance(value, str | int):
                assert found[f"[{at}]"][name] == value, kind
    assert len(connect(folder).sql("SELECT * FROM t").fetchall()) == len(changes)


@pytest.mark.parametrize(
    "data",
    [
        record([], 1, index=-1).replace(b",]", b"]"),
        record([], 1, index=2**40).replace(b",]", b"]"),
        record([], 1, epoch=-1).replace(b",]", b"]"),
        record([], 1, source="").replace(b",]", b"]"),
        record([], 1).replace(b",]", b"]").replace(b'"table":"t"', b'"table":"%b"' % (b"x" * 300)),
        record([], 1).replace(b",]", b"]").replace(b'"action":"I"', b'"action":"I","xid":%d' % 2**70),
    ],
)
def test_what_no_lake_can_hold_is_refused_as_poison(tmp_path: Path, data: bytes) -> None:
    sink = open_sink(SinkContext("parquet", "shard", tmp_path, {"compact": False}))
    good = decode(record([("a", "text", "x")], 7))
    try:
        bad: Change = decode(data)
    except EnvelopeError:
        return
    with pytest.raises(PoisonChange):
        sink.apply(batch(good, bad))
    assert sink.flush() == Outcome(), "no change of a refused batch is buffered"
    assert deliver(sink, good) == Outcome(applied=1)


@pytest.mark.timeout(30)
@pytest.mark.parametrize("kind", TYPES)
def test_a_number_of_a_billion_digits_costs_nothing(tmp_path: Path, kind: str) -> None:
    sink = open_sink(SinkContext("parquet", "shard", tmp_path, {"compact": False}))
    assert deliver(sink, decode(record([("a", kind, Decimal("1e999999999"))], 1))) == Outcome(applied=1)
