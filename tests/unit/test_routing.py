"""From wal2json's messages to records: positions, keys, key changes, annotations, filters."""

import msgspec
import pytest

from cdckit.change import Op
from cdckit.envelope import decode
from cdckit.errors import EnvelopeError, SourceError
from cdckit.position import Lsn
from producer.routing import Origin, Record, Router, TableFilter, partition_key
from producer.wal2json import Begin, Commit, LogicalMessage, RowMessage, parse

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


def routed(*payloads: bytes, tables: TableFilter | None = None) -> list[Record]:
    router = Router(ORIGIN, tables)
    router.begin(Begin(9, Lsn(100), Lsn(120)))
    records = []
    for payload in payloads:
        message = parse(payload)
        if isinstance(message, RowMessage):
            records += router.route(message)
        elif isinstance(message, LogicalMessage):
            router.annotate(message)
    return records


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
    assert filtered.position == whole.position


def test_a_truncate_goes_to_every_shard() -> None:
    [record] = routed(row("T", None))
    assert record.every_shard
    assert decode(record.data).op is Op.TRUNCATE


def test_a_table_without_a_key_stays_in_order_as_a_whole() -> None:
    records = routed(row("I", "a", pk=False), row("U", "b", old="a", pk=False), row("D", "b", pk=False))
    assert {record.partition_key for record in records} == {"shop/public.orders/"}


def test_an_annotation_goes_with_later_changes_of_its_transaction_only() -> None:
    note = msgspec.json.encode(
        {"action": "M", "transactional": True, "prefix": "cdc.annotation", "content": '{"actor":"alice"}'}
    )
    before, after = routed(row("I", "a"), note, row("I", "b"))
    assert decode(before.data).annotation is None
    assert decode(after.data).annotation == {"actor": "alice"}
    assert decode(routed(row("I", "c"))[0].data).annotation is None


def test_an_annotation_that_is_no_json_is_kept_as_text() -> None:
    note = msgspec.json.encode(
        {"action": "M", "transactional": True, "prefix": "cdc.annotation", "content": "hand fix"}
    )
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


@pytest.mark.parametrize(
    "payload", [b"", b"COMMIT", b'{"action":"B"}', b'{"action":"M","prefix":3}', b'{"action":"I"}']
)
def test_what_is_no_wal2json_is_refused(payload: bytes) -> None:
    with pytest.raises((SourceError, EnvelopeError)):
        parse(payload)


def test_boundaries_carry_the_position_to_acknowledge() -> None:
    assert parse(b'{"action":"B","xid":7,"lsn":"0/64","nextlsn":"0/78"}') == Begin(7, Lsn(100), Lsn(120))
    assert parse(b'{"action":"C","xid":7,"lsn":"0/64","nextlsn":"0/78"}') == Commit(Lsn(120))
