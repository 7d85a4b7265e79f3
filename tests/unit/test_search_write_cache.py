"""The write cache of the OpenSearch engine: bounded, the last write of each document, discarded on request."""

from consumers.search.opensearch.bulk import DocumentVersion
from consumers.search.opensearch.write_cache import WriteCache


def test_the_last_write_is_cached_with_its_version() -> None:
    cache = WriteCache()
    cache.put("a", b'{"key":"1"}', DocumentVersion(1, 1))
    cache.put("a", b'{"key":"2"}', DocumentVersion(7, 1))
    assert cache.get("a") == ({"key": "2"}, DocumentVersion(7, 1))
    assert cache.get("b") is None


def test_a_deleted_and_a_discarded_document_must_be_read() -> None:
    cache = WriteCache()
    for name in ("deleted", "discarded"):
        cache.put(name, b"{}", DocumentVersion(1, 1))
    cache.put("deleted", b"", DocumentVersion(2, 1))
    cache.discard("discarded")
    assert cache.get("deleted") is None
    assert cache.get("discarded") is None


def test_the_oldest_writes_are_discarded_at_the_size_limit() -> None:
    cache = WriteCache(max_bytes=10 * 1000)
    for number in range(100):
        cache.put(str(number), b'"' + b"x" * 700 + b'"', DocumentVersion(number, 1))
    cached = [number for number in range(100) if str(number) in cache]
    assert cached == list(range(91, 100))
    cache.put("91", b"{}", DocumentVersion(100, 1))
    cache.put("new", b'"' + b"x" * 700 + b'"', DocumentVersion(101, 1))
    assert "91" in cache, "a document that was written again is no longer the oldest"
