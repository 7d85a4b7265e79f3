"""KPL aggregated records: what is packed is unpacked, and anything else is a record of its own, as in the KCL."""

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from cdckit.aggregation import MAGIC, OVERHEAD, OVERHEAD_PER_RECORD, SubRecord, pack, unpack

RECORDS = st.lists(
    st.builds(
        SubRecord,
        st.text(min_size=1, max_size=20),
        st.binary(max_size=300),
        st.none() | st.integers(0, 2**128 - 1).map(str),
    ),
    min_size=1,
    max_size=30,
)


@given(RECORDS)
def test_what_is_packed_is_unpacked(records: list[SubRecord]) -> None:
    packed = pack(records)
    assert unpack(packed, "outer") == records
    sizes = [len(r.data) + len(r.partition_key.encode()) + len(r.hash_key or "") + OVERHEAD_PER_RECORD for r in records]
    assert len(packed) <= OVERHEAD + sum(sizes), "the bound by which the producer cuts"


@given(st.binary(max_size=200))
def test_anything_else_is_itself(data: bytes) -> None:
    assert unpack(data, "key") == [SubRecord("key", data)]


@given(RECORDS, st.data())
def test_a_damaged_one_is_itself(records: list[SubRecord], data: st.DataObject) -> None:
    packed = bytearray(pack(records))
    packed[data.draw(st.integers(0, len(packed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert unpack(bytes(packed), "key") == [SubRecord("key", bytes(packed))]


@given(st.binary(max_size=100))
def test_a_digest_that_is_right_over_nonsense_is_no_crash(message: bytes) -> None:
    whole = MAGIC + message + hashlib.md5(message).digest()
    unpack(whole, "key")


def test_the_bytes_are_those_of_the_format() -> None:
    """Written out by hand from the KPL's description."""
    message = b"\x0a\x01k" + b"\x1a\x06\x08\x00\x1a\x02hi"
    assert pack([SubRecord("k", b"hi")]) == MAGIC + message + hashlib.md5(message).digest()
