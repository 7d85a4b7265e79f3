"""What the OpenSearch writer remembers of its own writes: bounded, the last write only, forgotten when asked."""

from consumers.search.opensearch.bulk import DocumentVersion
from consumers.search.opensearch.write_cache import WriteCache


def test_the_last_write_is_remembered_with_its_version() -> None:
    recent = WriteCache()
    recent.wrote("a", b'{"key":"1"}', DocumentVersion(1, 1))
    recent.wrote("a", b'{"key":"2"}', DocumentVersion(7, 1))
    assert recent.get("a") == ({"key": "2"}, DocumentVersion(7, 1))
    assert recent.get("b") is None


def test_a_deleted_and_a_forgotten_document_must_be_read() -> None:
    recent = WriteCache()
    for name in ("deleted", "forgotten"):
        recent.wrote(name, b"{}", DocumentVersion(1, 1))
    recent.wrote("deleted", b"", DocumentVersion(2, 1))
    recent.forget("forgotten")
    assert recent.get("deleted") is None
    assert recent.get("forgotten") is None


def test_the_oldest_writes_are_forgotten_when_there_is_no_room() -> None:
    recent = WriteCache(most_bytes=10 * 1000)
    for number in range(100):
        recent.wrote(str(number), b'"' + b"x" * 700 + b'"', DocumentVersion(number, 1))
    remembered = [number for number in range(100) if str(number) in recent]
    assert remembered == list(range(91, 100))
    recent.wrote("91", b"{}", DocumentVersion(100, 1))
    recent.wrote("new", b'"' + b"x" * 700 + b'"', DocumentVersion(101, 1))
    assert "91" in recent, "written again, it is no longer the oldest"
