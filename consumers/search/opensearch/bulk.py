"""Bulk requests: writes under compare-and-set, and what became of each; a rejected one is named, never passed over."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from opensearchpy import OpenSearch
from opensearchpy.exceptions import TransportError

from cdckit.errors import PoisonChange, SatelliteError
from consumers.search.opensearch.layout import encode

MAX_IN_FLIGHT = 2
"""Bulk requests at a time: OpenSearch gives each a thread of its own (one shard took 1.5 times as much as of one)."""
_MAX_REQUEST_BYTES = 8 * 1024 * 1024  # of one request
_REJECTED, _CONFLICT, _TOO_LARGE, _TOO_MUCH, _BUSY = 400, 409, 413, 429, (429, 503)
_ANSWER = ",".join(f"items.*.{field}" for field in ("status", "error", "_seq_no", "_primary_term"))


@dataclass(frozen=True, slots=True)
class DocumentVersion:
    """Which write of a document is meant: one that is to replace another than the last is refused."""

    seq_no: int
    term: int


@dataclass(frozen=True, slots=True)
class DocumentWrite:
    """A document to be written over the version it had when it was read; None: it was not there. No body: a delete."""

    name: str
    over: DocumentVersion | None
    body: bytes

    @property
    def lines(self) -> bytes:
        """Its part of a request."""
        guard = {} if self.over is None else {"if_seq_no": self.over.seq_no, "if_primary_term": self.over.term}
        verb = "delete" if not self.body else "create" if self.over is None else "index"
        action = encode({verb: {"_id": self.name, **guard}})
        return action + b"\n" + self.body + b"\n" if self.body else action + b"\n"


@dataclass(frozen=True, slots=True)
class WriteResult:
    """What became of a write: its new version; or None, as someone else was first or, if `busy`, the server full."""

    version: DocumentVersion | None
    busy: bool = False


class BulkWriter:
    """Writes to one index."""

    def __init__(self, client: OpenSearch, index: str) -> None:
        """Nothing is asked of the server yet."""
        self._client, self._index = client, index

    def write(self, writes: Sequence[DocumentWrite]) -> list[WriteResult]:
        """The result of each, in order; durable when it returns. Raises PoisonChange, SatelliteError."""
        return [
            self._result(one, item)
            for chunk in _chunks(writes)
            for one, item in zip(chunk, self._send(chunk), strict=True)
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
                "see the index's blocks and the server's log; nothing is lost, the consumer goes on from there",
            )
        return WriteResult(DocumentVersion(answer["_seq_no"], answer["_primary_term"]))

    def _send(self, writes: Sequence[DocumentWrite]) -> Sequence[Mapping[str, Any]]:
        """One request, or several when the server finds it too large; each write's answer."""
        body = b"".join([write.lines for write in writes])
        try:
            answer = self._client.bulk(index=self._index, body=body, filter_path=_ANSWER)
        except TransportError as error:
            alone = len(writes) == 1
            if error.status_code not in (_TOO_LARGE, _TOO_MUCH) or (alone and error.status_code == _TOO_MUCH):
                raise
            if alone:
                raise _poison(writes[0], {"reason": f"{len(body)} bytes are too large for it"}) from error
            half = len(writes) // 2
            return [*self._send(writes[:half]), *self._send(writes[half:])]
        items: Sequence[Mapping[str, Any]] = answer["items"]
        return items


def pipelined(
    write: Callable[[Sequence[DocumentWrite]], list[WriteResult]], batches: Iterable[Sequence[DocumentWrite]]
) -> Iterator[list[WriteResult]]:  # fmt: skip
    """The results of each batch, in order; the next is asked for while `MAX_IN_FLIGHT` are being written.

    Nothing is on its way any more when this ends, however it ends.
    """
    with ThreadPoolExecutor(MAX_IN_FLIGHT, thread_name_prefix="bulk") as pool:
        flying: deque[Future[list[WriteResult]]] = deque()
        for batch in batches:
            flying.append(pool.submit(write, batch))
            if len(flying) > MAX_IN_FLIGHT:
                yield flying.popleft().result()
        while flying:
            yield flying.popleft().result()


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
