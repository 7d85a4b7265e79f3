"""`cdcctl tail` prints what a plain read of the stream, filtered in Python, gives; across a split and a merge."""

import csv
import io
import json
import random
from collections import defaultdict
from collections.abc import Callable

import pytest

from cdckit.change import Change, Op
from cdckit.position import Position
from tests.support.calling import Caller
from tests.support.fault_proxy import FaultProxy
from tests.support.mixed_stream import JUNK, MixedStream
from tests.support.resharding_aws import ReshardingCloud

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def filled(resharding_aws: ReshardingCloud) -> MixedStream:
    stream = MixedStream(resharding_aws, random.Random(10))
    stream.fill()
    return stream


@pytest.fixture
def stream(filled: MixedStream, resharding: ReshardingCloud, monkeypatch: pytest.MonkeyPatch) -> MixedStream:
    monkeypatch.setenv("CDC_STREAM", filled.stream)
    return filled


def positions(objects: list[dict[str, object]]) -> list[str]:
    return sorted(str(change["position"]) for change in objects if "position" in change)


@pytest.mark.parametrize(
    ("flags", "selects"),
    [
        ([], lambda _: True),
        (["--table", "public.lin*"], lambda change: change.table.name == "lines"),
        (["--table", "orders", "--op", "delete,I"], lambda change: change.table.name == "orders" and change.op in "DI"),
        (["--key", "7", "--key", "[8]"], lambda change: change.key["id"] in (7, 8)),
        (["--where", "value = 'value 3' or id > 20"], lambda change: has_value(change, "value 3", 20)),
        (["--where", "not value like '%3' and id <= 9"], lambda change: change.op is not Op.DELETE and is_low(change)),
    ],
)
def test_filters_equal_a_plain_read(
    stream: MixedStream, cdcctl: Caller, flags: list[str], selects: Callable[[Change], bool]
) -> None:
    seen = cdcctl("tail", "--from-beginning", "--no-follow", "-o", "jsonl", *flags)
    assert positions(seen.objects) == stream.positions(selects)
    assert len(positions(seen.objects)) > 0
    assert sum("unreadable" in record for record in seen.objects) == 3


def test_a_misspelled_column_is_reported(stream: MixedStream, cdcctl: Caller, caplog: pytest.LogCaptureFixture) -> None:
    flags = ("tail", "--from-beginning", "--no-follow", "-o", "jsonl", "--where")
    assert positions(cdcctl(*flags, "valeu = 'value 3' or id < 0").objects) == []
    assert "a column valeu; did you mean value?" in caplog.text
    caplog.clear()
    cdcctl(*flags, "value = 'value 3'")
    assert "--where" not in caplog.text


def has_value(change: Change, value: str, above: int) -> bool:
    row = change.after if change.after is not None else change.before
    assert row is not None
    return row.get("value") == value or int(str(row["id"])) > above


def is_low(change: Change) -> bool:
    assert change.after is not None
    return not str(change.after["value"]).endswith("3") and int(str(change.after["id"])) <= 9


def test_the_changes_of_a_key_are_in_the_order_in_which_they_were_put(stream: MixedStream, cdcctl: Caller) -> None:
    seen = cdcctl("tail", "--from-beginning", "--no-follow", "-o", "jsonl").objects
    by_key = defaultdict(list)
    for change in seen:
        if "position" in change:
            by_key[change["table"], change["key"]["id"]].append(Position.parse(change["position"]))
    assert all(order == sorted(order) for order in by_key.values())


def test_a_range_by_time_lsn_and_position(stream: MixedStream, cdcctl: Caller) -> None:
    ordered = sorted(stream.changes(), key=lambda change: change.position)
    first, last = ordered[50], ordered[150]
    for since, until in (
        (first.commit_time.isoformat(), last.commit_time.isoformat()),
        (str(first.position.commit_lsn), str(last.position.commit_lsn)),
        (str(first.position), str(last.position)),
    ):
        seen = cdcctl("tail", "--since", since, "--until", until, "-o", "jsonl")  # ends on its own
        expected = stream.positions(lambda change: first.position <= change.position <= last.position)
        assert positions(seen.objects) == expected


def test_ordered_is_commit_order_across_shards(stream: MixedStream, cdcctl: Caller) -> None:
    seen = cdcctl("tail", "--from-beginning", "--no-follow", "--ordered", "--window", "5", "-o", "jsonl").objects
    order = [Position.parse(change["position"]) for change in seen if "position" in change]
    assert order == sorted(order)
    assert len(order) == len(stream.entries)


def test_the_last_n(stream: MixedStream, cdcctl: Caller) -> None:
    seen = cdcctl("tail", "-n", "7", "--no-follow", "--table", "lines", "-o", "jsonl").objects
    lines = [change for change in stream.changes() if change.table.name == "lines"]
    newest = sorted(lines, key=lambda change: (change.commit_time, change.position))[-7:]
    assert "unreadable" in seen[-1], "the unreadable record came last and counts"
    assert [change["position"] for change in seen[:-1]] == [str(change.position) for change in newest[1:]]


def test_one_shard_alone(stream: MixedStream, cdcctl: Caller) -> None:
    everything = []
    for number in range(5):  # 2, a split into 2, a merge of 2
        seen = cdcctl("tail", "--from-beginning", "--no-follow", "--shard", str(number), "-o", "jsonl").objects
        everything += seen
    assert positions(everything) == stream.positions()
    refused = cdcctl("tail", "--no-follow", "--shard", "7", status=2)
    assert "has no shard 7" in refused.stderr


def test_every_format_shows_the_same_changes(stream: MixedStream, cdcctl: Caller) -> None:
    def printed(*flags: str) -> str:
        return cdcctl("tail", "--from-beginning", "--no-follow", *flags).stdout

    expected = stream.positions()
    assert positions(json.loads(printed("-o", "json"))) == expected
    rows = list(csv.DictReader(io.StringIO(printed("-o", "csv", "--columns", "value"))))
    assert sorted(row["position"] for row in rows if row["position"]) == expected
    assert {row["row.value"] for row in rows} >= {"value 3"}
    raw = [json.loads(line) for line in printed("-o", "raw").splitlines()]
    assert sorted(f"1:{record['cdc']['commit_lsn']}:0" for record in raw if "cdc" in record) == expected
    pretty = printed()
    assert len(pretty.splitlines()) == len(expected) + 3
    assert pretty.count("? unreadable record") == 3
    assert "value 1 → value" in pretty
    grouped = [json.loads(line) for line in printed("--tx", "--window", "5", "-o", "jsonl").splitlines()]
    changes = [change for group in grouped if "changes" in group for change in group["changes"]]
    assert sorted(change["position"] for change in changes) == expected
    stats = json.loads(printed("--stats", "-o", "json"))
    assert {table["table"]: table["total"] for table in stats} == {
        "public.orders": len(stream.positions(lambda change: change.table.name == "orders")),
        "public.lines": len(stream.positions(lambda change: change.table.name == "lines")),
        "(unreadable)": 3,
    }


def test_an_unreadable_record_is_printed_completely(stream: MixedStream, cdcctl: Caller) -> None:
    import base64

    seen = cdcctl("tail", "--from-beginning", "--no-follow", "-o", "jsonl").objects
    assert {base64.b64decode(record["data"]) for record in seen if "unreadable" in record} == {JUNK}


def test_tail_makes_only_read_requests(
    stream: MixedStream, cdcctl: Caller, resharding: ReshardingCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FaultProxy(resharding.kinesis) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_KINESIS", proxy.url)
        monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", "http://127.0.0.1:9")
        cdcctl("tail", "--from-beginning", "--no-follow", "-o", "jsonl")
        assert set(proxy.counts) - {"dropped", "throttled", "failed"} <= {
            "ListShards", "GetShardIterator", "GetRecords", "DescribeStreamSummary",
        }  # fmt: skip
