"""From wal2json's messages to records: positions, keys, key changes, annotations, filters."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdckit.change import Op
from cdckit.envelope import decode
from cdckit.errors import EnvelopeError, SourceError
from cdckit.position import Lsn
from producer.decoding.router import Router
from producer.decoding.table_filter import TableFilter
from producer.records import Origin, Record, partition_key
from producer.wal2json import commit_lsn, end_and_time

ORIGIN = Origin("shop", 2, "7711", 1, "cdc")


def row(
    action: str, key: object, *, old: object = None, table: str = "orders", pk: bool = True, **columns: object
) -> bytes:
    def cells(values: dict[str, object]) -> list[dict[str, object]]:
        return [{"name": name, "type": "text", "value": value} for name, value in values.items()]

    message: dict[str, object] = {
        "action": action, "xid": 9, "timestamp": "2026-11-24 04:14:15+00", "lsn": "0/10",
        "schema": "public", "table": table,
    }  # fmt: skip
    if action in "IU":
        message["columns"] = cells({"id": key, **columns})
    if action in "UD":
        message["identity"] = cells({"id": key if old is None else old})
    if action != "T":
        message["pk"] = [{"name": "id", "type": "text"}] if pk else []
    return msgspec.json.encode(message)


BEGIN = b'{"action":"B","xid":9,"timestamp":"2026-11-24 04:14:15+00","lsn":"0/64","nextlsn":"0/78"}'


def routed(*payloads: bytes, tables: TableFilter | None = None, prefixes: tuple[str, ...] = ()) -> list[Record]:
    router = Router(ORIGIN, tables, prefixes)
    router.begin(BEGIN)
    records: list[Record] = []
    for payload in payloads:
        records += router.handle(payload)
    return records


def message(prefix: str, content: str, *, transactional: bool = True) -> bytes:
    time = "2026-11-24 04:14:15+00" if transactional else None
    return msgspec.json.encode(
        {"action": "M", "xid": 9 if transactional else None, "timestamp": time, "lsn": "0/32",
         "transactional": transactional, "prefix": prefix, "content": content}
    )  # fmt: skip


def test_changes_are_counted_in_their_transaction() -> None:
    records = routed(row("I", "a"), row("U", "a"), row("D", "a"))
    assert [str(decode(record.data).position) for record in records] == ["2:0/64:0", "2:0/64:1", "2:0/64:2"]
    assert {record.partition_key for record in records} == {'shop/public.orders/["a"]'}


def test_a_key_change_is_a_delete_and_an_insert_with_two_indexes() -> None:
    gone, come, later = routed(row("U", "new", old="old", note="x"), row("I", "other"))
    delete, insert = decode(gone.data), decode(come.data)
    assert (delete.op, delete.key, delete.position.index, delete.key_change) == (Op.DELETE, {"id": "old"}, 0, True)
    assert (insert.op, insert.key, insert.position.index, insert.key_change) == (Op.INSERT, {"id": "new"}, 1, True)
    assert insert.after == {"id": "new", "note": "x"}
    assert (gone.partition_key, come.partition_key) == ('shop/public.orders/["old"]', 'shop/public.orders/["new"]')
    assert decode(later.data).position.index == 2


def test_a_filter_does_not_change_positions() -> None:
    payloads = (row("I", "a", table="skipped"), row("U", "b", old="a", table="skipped"), row("I", "c"))
    [whole] = [record for record in routed(*payloads) if "orders" in record.partition_key]
    [filtered] = routed(*payloads, tables=TableFilter.parse("public.*", "*.skipped"))
    assert decode(filtered.data).position == decode(whole.data).position


def test_a_truncate_goes_to_every_shard() -> None:
    [record] = routed(row("T", None))
    assert record.every_shard
    assert decode(record.data).op is Op.TRUNCATE


def test_a_table_without_a_key_stays_in_order_as_a_whole() -> None:
    records = routed(row("I", "a", pk=False), row("U", "b", old="a", pk=False), row("D", "b", pk=False))
    assert {record.partition_key for record in records} == {"shop/public.orders/"}


def test_an_annotation_goes_with_later_changes_of_its_transaction_only() -> None:
    note = message("cdc.annotation", '{"actor":"alice"}')
    before, after = routed(row("I", "a"), note, row("I", "b"))
    assert decode(before.data).annotation is None
    assert decode(after.data).annotation == {"actor": "alice"}
    assert decode(routed(row("I", "c"))[0].data).annotation is None


def test_an_annotation_that_is_no_json_is_kept_as_text() -> None:
    note = message("cdc.annotation", "hand fix")
    [record] = routed(note, row("I", "a"))
    assert decode(record.data).annotation == {"text": "hand fix"}


def test_long_keys_are_hashed_and_stay_distinct() -> None:
    one, other = routed(row("I", "x" * 300 + "1"), row("I", "x" * 300 + "2"))
    assert one.partition_key != other.partition_key
    assert max(len(one.partition_key), len(other.partition_key)) <= 256


def test_partition_keys_of_two_tables_never_meet() -> None:
    [one] = routed(row("I", "a", table='o"/x'))
    [other] = routed(row("I", "a", table="o"))
    assert one.partition_key != other.partition_key
    assert partition_key("s", other.table, {"id": 1}) == "s/public.o/[1]"


def test_a_published_message_is_a_record_and_others_only_count() -> None:
    other, asked = message("other", "x"), message("outbox", '{"key":"k1","body":1}')
    first, sent, last = routed(row("I", "a"), other, asked, row("I", "b"), prefixes=("outbox",))
    change = decode(sent.data)
    assert sent.data.startswith(asked[:-1]), "wal2json's own text"
    assert sent.partition_key == 'shop/pg_logical_message.outbox/["k1"]'
    assert (change.op, str(change.table), change.key) == (Op.INSERT, "pg_logical_message.outbox", {"lsn": "0/32"})
    assert change.after == {"lsn": "0/32", "content": '{"key":"k1","body":1}', "transactional": True}
    assert [decode(one.data).position.index for one in (first, sent, last)] == [0, 2, 3]
    assert [decode(one.data).position.index for one in routed(row("I", "a"), other, asked, row("I", "b"))] == [0, 3]


def test_a_message_outside_a_transaction_has_its_own_position() -> None:
    [record] = routed(message("outbox", "plain", transactional=False), prefixes=("outbox",))
    change = decode(record.data)
    assert (str(change.position), record.partition_key) == ("2:0/32:0", "shop/pg_logical_message.outbox/")
    assert change.commit_time.year >= 2026


VALUES = st.one_of(st.text(), st.integers(-(2**63), 2**63), st.none(), st.booleans())
NAMES = st.text(min_size=1, max_size=20)


@given(st.data())
def test_the_key_scanner_and_the_parser_agree(data: st.DataObject) -> None:
    """For any names and values, even wal2json's own punctuation, key and table are those that a parser finds."""
    names = data.draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    kinds = {name: data.draw(st.sampled_from(["integer", "text", "numeric", "bigint"])) for name in names}
    pk = data.draw(st.lists(st.sampled_from(names), max_size=2, unique=True))

    def cells() -> list[dict[str, object]]:
        return [{"name": name, "type": kinds[name], "value": data.draw(VALUES)} for name in names]

    keyless = [{"name": name, "type": kinds[name]} for name in pk]
    payloads = []
    for action in data.draw(st.lists(st.sampled_from("IUD"), min_size=1, max_size=4)):
        columns = cells()
        same = [cell for cell in columns if cell["name"] in pk]
        identity = same if data.draw(st.booleans()) else [cell for cell in cells() if cell["name"] in pk or not pk]
        shown = {
            "I": {"columns": columns},
            "U": {"columns": columns, "identity": identity},
            "D": {"identity": identity},
        }
        schema, table = data.draw(st.tuples(st.sampled_from(["public", '"a,\\']), st.sampled_from(["t", ',"pk":['])))
        payloads.append(
            msgspec.json.encode(
                {"action": action, "xid": 9, "timestamp": "2026-11-24 04:14:15+00", "lsn": "0/32",
                 "schema": schema, "table": table, **shown[action], "pk": keyless}
            )
        )  # fmt: skip
    for record in routed(*payloads):
        change = decode(record.data)
        key = change.key if pk else None
        assert record.partition_key == partition_key("shop", change.table, key)
        assert record.table == change.table


@pytest.mark.parametrize("payload", [b'{"action":"M","prefix":3}', b'{"action":"I"}', b'{"action":"U","schema":"a"}'])
def test_what_is_no_wal2json_is_refused(payload: bytes) -> None:
    with pytest.raises((SourceError, EnvelopeError)):
        routed(payload)


def test_boundaries_carry_the_position_to_acknowledge() -> None:
    assert end_and_time(BEGIN) == (Lsn.parse("0/78"), "2026-11-24 04:14:15+00")
    assert commit_lsn(BEGIN) == b"0/64"
    with pytest.raises(SourceError):
        commit_lsn(b'{"action":"B"}')
