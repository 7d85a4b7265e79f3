"""The wire: wal2json verbatim plus `cdc`; exact numbers; anything else is refused with EnvelopeError."""

import contextlib
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdckit.change import Op
from cdckit.envelope import VERSION, Metadata, decode, inject
from cdckit.errors import EnvelopeError
from cdckit.packing import MAX_DECOMPRESSED_BYTES, compress, decompress
from cdckit.position import Lsn, Position

STAMP = Metadata(VERSION, 3, "0/1946920", 5, "shop", "7711", 2, "cdc", {"actor": "alice"})
UPDATE = (
    b'{"action":"U","xid":7,"timestamp":"2026-11-24 04:14:15.07362+00","lsn":"0/1947018",'
    b'"schema":"public","table":"orders",'
    b'"columns":[{"name":"id","type":"integer","value":1},{"name":"n","type":"numeric","value":12345678901234567890123.10}],'
    b'"identity":[{"name":"id","type":"integer","value":1}],"pk":[{"name":"id","type":"integer"}]}'
)


def test_splicing_keeps_wal2jsons_text_and_adds_one_key() -> None:
    data = inject(UPDATE, STAMP)
    assert data.startswith(UPDATE[:-1])
    assert set(msgspec.json.decode(data)) - set(msgspec.json.decode(UPDATE)) == {"cdc"}


def test_a_change_knows_all_that_was_sent() -> None:
    change = decode(inject(UPDATE, STAMP))
    assert (change.op, change.source, str(change.table)) == (Op.UPDATE, "shop", "public.orders")
    assert change.position == Position(3, Lsn.parse("0/1946920"), 5)
    assert change.key == {"id": 1}
    assert change.annotation == {"actor": "alice"}
    assert change.commit_time.isoformat() == "2026-11-24T04:14:15.073620+00:00"
    assert change.xid == 7
    assert change.lsn == Lsn.parse("0/1947018")


@pytest.mark.parametrize(
    "number", ["12345678901234567890123.10", "123456789012345678901234567890", "1e-400", "0.1", "-0"]
)
def test_numbers_keep_every_digit(number: str) -> None:
    change = decode(inject(UPDATE.replace(b"12345678901234567890123.10", number.encode()), STAMP))
    assert change.after is not None
    assert change.after["n"] == Decimal(number)
    assert not isinstance(change.after["n"], float)


def test_an_absent_column_is_not_null() -> None:
    data = inject(UPDATE.replace(b',{"name":"n","type":"numeric","value":12345678901234567890123.10}', b""), STAMP)
    change = decode(data)
    assert change.after == {"id": 1}


def test_a_table_without_a_key_is_known_by_all_its_columns() -> None:
    row = UPDATE.replace(b'"pk":[{"name":"id","type":"integer"}]', b'"pk":[]').replace(b'"action":"U"', b'"action":"I"')
    assert set(decode(inject(row, STAMP)).key) == {"id", "n"}


@given(st.binary(max_size=200))
def test_random_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(EnvelopeError):
        decode(data)


@given(st.integers(0, len(UPDATE)), st.integers(0, 255))
def test_a_flipped_byte_is_read_or_refused_never_worse(place: int, byte: int) -> None:
    whole = bytearray(inject(UPDATE, STAMP))
    whole[place] = byte
    with contextlib.suppress(EnvelopeError):
        decode(bytes(whole))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'"v":1', b'"v":2'),
        (b'"action":"U"', b'"action":"X"'),
        (b'"commit_lsn":"0/1946920"', b'"commit_lsn":"nowhere"'),
        (b'"timestamp":"2026-11-24 04:14:15.07362+00"', b'"timestamp":null'),
        (b'"timestamp":"2026-11-24 04:14:15.07362+00"', b'"timestamp":"soon"'),
        (b'"columns":[', b'"columns":[3,'),
        (b'"schema":"public",', b""),
    ],
)
def test_a_wrong_envelope_is_refused(before: bytes, after: bytes) -> None:
    data = inject(UPDATE, STAMP)
    assert before in data
    with pytest.raises(EnvelopeError):
        decode(data.replace(before, after))


def test_a_compressed_record_is_the_same_change() -> None:
    data = inject(UPDATE, STAMP)
    assert decode(compress(data)) == decode(data)
    assert decompress(compress(data)) == data


def test_a_bomb_is_refused_before_it_takes_the_memory() -> None:
    bomb = compress(b"0" * (MAX_DECOMPRESSED_BYTES + 1))
    assert len(bomb) < 100_000
    with pytest.raises(EnvelopeError, match="decompresses to more than"):
        decode(bomb)


@pytest.mark.parametrize("cut", [3, 20, 60])
def test_a_compressed_record_that_was_cut_is_refused(cut: int) -> None:
    with pytest.raises(EnvelopeError):
        decode(compress(inject(UPDATE, STAMP))[:cut])
