"""Bulk requests: writes documents with compare-and-set, and reports the result of each write."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from opensearchpy import OpenSearch
from opensearchpy.exceptions import TransportError

from cdckit.errors import PoisonChange, SatelliteError
from consumers.search.exact_json import encode

MAX_IN_FLIGHT = 2
"""Concurrent bulk requests. Each gets a thread of its own in OpenSearch (on one shard, 1.5 times the rate of one)."""
_MAX_REQUEST_BYTES = 8 * 1024 * 1024  # of one request
_REJECTED, _CONFLICT, _TOO_LARGE, _OVERLOADED, _BUSY = 400, 409, 413, 429, (429, 503)
_RESPONSE_FIELDS = ",".join(f"items.*.{field}" for field in ("status", "error", "_seq_no", "_primary_term"))


@dataclass(frozen=True, slots=True)
class DocumentVersion:
    """The version of a document: its last write. A write that expects another version is refused."""

    seq_no: int
    term: int


@dataclass(frozen=True, slots=True)
class DocumentWrite:
    """A document to write over the version that was read (None: it must not exist). An empty body deletes it."""

    name: str
    expected: DocumentVersion | None
    body: bytes

    @property
    def lines(self) -> bytes:
        """The write's lines in a bulk request."""
        version = self.expected
        condition = {} if version is None else {"if_seq_no": version.seq_no, "if_primary_term": version.term}
        verb = "delete" if not self.body else "create" if version is None else "index"
        action = encode({verb: {"_id": self.name, **condition}})
        return action + b"\n" + self.body + b"\n" if self.body else action + b"\n"


@dataclass(frozen=True, slots=True)
class WriteResult:
    """The new version; or None when another writer was first or, if `busy`, the server is overloaded."""

    version: DocumentVersion | None
    busy: bool = False


class BulkWriter:
    """Writes documents of one index."""

    def __init__(self, client: OpenSearch, index: str) -> None:
        """Prepare only: no request is sent."""
        self._client, self._index = client, index

    def write(self, writes: Sequence[DocumentWrite]) -> list[WriteResult]:
        """Write the documents; durable on return. The results are in order. Raises PoisonChange, SatelliteError."""
        return [
            self._result(write, item)
            for chunk in _chunks(writes)
            for write, item in zip(chunk, self._send(chunk), strict=True)
        ]

    def _result(self, write: DocumentWrite, item: Mapping[str, Mapping[str, Any]]) -> WriteResult:
        [answer] = item.values()
        status = answer["status"]
        if status == _CONFLICT or status in _BUSY:
            return WriteResult(None, busy=status in _BUSY)
        if status == _REJECTED:
            raise _poison(write, answer["error"])
        if "error" in answer:
            raise SatelliteError(
                f"OpenSearch answers {status} to writes of {self._index}: {answer['error'].get('reason')}",
                "see the index's blocks and the server's log; nothing is lost: the consumer continues from here",
            )
        return WriteResult(DocumentVersion(answer["_seq_no"], answer["_primary_term"]))

    def _send(self, writes: Sequence[DocumentWrite]) -> Sequence[Mapping[str, Any]]:
        """Send one request, or several if the server says that it is too large. Returns the item of each write."""
        body = b"".join([write.lines for write in writes])
        try:
            answer = self._client.bulk(index=self._index, body=body, filter_path=_RESPONSE_FIELDS)
        except TransportError as error:
            single = len(writes) == 1
            if error.status_code not in (_TOO_LARGE, _OVERLOADED) or (single and error.status_code == _OVERLOADED):
                raise
            if single:
                raise _poison(writes[0], {"reason": f"{len(body)} bytes are too large for it"}) from error
            half = len(writes) // 2
            return [*self._send(writes[:half]), *self._send(writes[half:])]
        items: Sequence[Mapping[str, Any]] = answer["items"]
        return items


def pipelined(
    write: Callable[[Sequence[DocumentWrite]], list[WriteResult]], batches: Iterable[Sequence[DocumentWrite]]
) -> Iterator[list[WriteResult]]:  # fmt: skip
    """Write the batches and yield their results, in order; while `MAX_IN_FLIGHT` are written, the next is prepared.

    When this generator ends, also by an exception, no request is in flight.
    """
    with ThreadPoolExecutor(MAX_IN_FLIGHT, thread_name_prefix="bulk") as pool:
        in_flight: deque[Future[list[WriteResult]]] = deque()
        for batch in batches:
            in_flight.append(pool.submit(write, batch))
            if len(in_flight) > MAX_IN_FLIGHT:
                yield in_flight.popleft().result()
        while in_flight:
            yield in_flight.popleft().result()


def _poison(write: DocumentWrite, error: Mapping[str, Any]) -> PoisonChange:
    cause = error.get("caused_by", {}).get("reason", "")
    return PoisonChange(f"OpenSearch rejects {write.name[:200]}: {error.get('reason')} {cause}".strip())


def _chunks(writes: Sequence[DocumentWrite]) -> Iterable[Sequence[DocumentWrite]]:
    chunk: list[DocumentWrite] = []
    size = 0
    for write in writes:
        chunk.append(write)
        size += len(write.body)
        if size >= _MAX_REQUEST_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
