"""A proxy between clients and Kinesis that makes trouble: refuses entries, throttles, drops and delays connections.

    with FaultProxy(kinesis_url, seed=7) as proxy:
        environ["AWS_ENDPOINT_URL_KINESIS"] = proxy.url
        proxy.faults = Faults(reject=0.2, drop=0.05)   # at any time, from any thread
        ...
        proxy.faults = Faults()                        # heal
        print(proxy.counts)

Every request is forwarded as it came (any service, JSON or CBOR); only PutRecords in JSON can have entries refused. A
dropped connection loses the request or, as often, only its answer: the client cannot know which.
"""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

THROTTLED = "ProvisionedThroughputExceededException"


@dataclass(frozen=True)
class Faults:
    """What goes wrong, as probabilities a request (`reject`: an entry). The default is nothing.

    `targets` are the operations that suffer. `delay` is the most seconds that an answer is late. `stalled` holds every
    request until it is healed. `expired` lists access keys whose token has expired. `refuse_entry` chooses entries
    instead of `reject`.
    """

    reject: float = 0.0
    throttle: float = 0.0
    error: float = 0.0
    drop: float = 0.0
    delay: float = 0.0
    stalled: bool = False
    expired: frozenset[str] = frozenset()
    refuse_entry: Callable[[Mapping[str, Any]], bool] | None = None
    targets: frozenset[str] = frozenset(("PutRecords",))


class FaultProxy:
    """Listens on a free port of 127.0.0.1 while it is entered."""

    def __init__(self, upstream: str, seed: int | None = None) -> None:
        """`upstream` is the URL of the real (local) Kinesis."""
        place = urlsplit(upstream)
        self._host, self._port = place.hostname or "127.0.0.1", place.port or 80
        self.faults = Faults()
        self.counts: Counter[str] = Counter()
        """Requests by operation, and faults by kind (``rejected``, ``throttled``, ``failed``, ``dropped``, …)."""
        self._chance, self._lock = random.Random(seed), threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        """The endpoint to give to clients."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> FaultProxy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.faults = Faults()
        self._server.shutdown()
        self._server.server_close()

    def happens(self, share: float, kind: str) -> bool:
        """Throw the dice for one fault, and count it."""
        with self._lock:
            struck = share > 0 and self._chance.random() < share
            self.counts[kind] += struck
        return struck

    def count(self, what: str) -> None:
        """Count a request."""
        with self._lock:
            self.counts[what] += 1

    def late(self) -> float:
        """How many seconds this answer is late."""
        with self._lock:
            return self._chance.random() * self.faults.delay

    def forward(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Ask the real one."""
        connection = http.client.HTTPConnection(self._host, self._port, timeout=60)
        try:
            kept = {key: value for key, value in headers.items() if key.lower() not in ("host", "connection")}
            connection.request(method, path, body, {**kept, "Content-Length": str(len(body))})
            response = connection.getresponse()
            return Answer(response.status, response.headers.get("Content-Type", ""), response.read())
        finally:
            connection.close()


@dataclass(frozen=True)
class Answer:
    """An HTTP answer."""

    status: int
    kind: str
    body: bytes

    @classmethod
    def error(cls, code: str, message: str, status: int = 400) -> Answer:
        """As Kinesis says it."""
        return cls(status, "application/x-amz-json-1.1", json.dumps({"__type": code, "message": message}).encode())


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are part of the game."""


def _handler(proxy: FaultProxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            answer = _answer(proxy, self, body)
            if answer is None:
                self.close_connection = True
                return
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.kind)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        do_GET = do_PUT = do_DELETE = do_HEAD = do_POST  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    return Handler


def _answer(proxy: FaultProxy, request: BaseHTTPRequestHandler, body: bytes) -> Answer | None:
    """The answer, with its faults; None drops the connection."""
    operation = (request.headers.get("X-Amz-Target") or "").rpartition(".")[2] or request.command
    proxy.count(operation)
    suffers = operation in proxy.faults.targets
    while suffers and proxy.faults.stalled:
        time.sleep(0.01)
    faults = proxy.faults if suffers else Faults()
    if any(f"Credential={key}/" in (request.headers.get("Authorization") or "") for key in faults.expired):
        proxy.count("expired")
        return Answer.error("ExpiredTokenException", "The security token included in the request is expired")
    if proxy.happens(faults.throttle, "throttled"):
        return Answer.error(THROTTLED, "Rate exceeded")
    if proxy.happens(faults.error, "failed"):
        return Answer.error("InternalFailure", "told to fail", 500)
    dropped = proxy.happens(faults.drop, "dropped")
    if dropped and proxy.happens(0.5, "dropped before"):
        return None
    time.sleep(proxy.late() if suffers and faults.delay else 0)
    if operation == "PutRecords" and (faults.reject or faults.refuse_entry):
        answer = _put_records(proxy, faults, request, body)
    else:
        answer = proxy.forward(request.command, request.path, body, dict(request.headers.items()))
    return None if dropped else answer


def _put_records(proxy: FaultProxy, faults: Faults, request: BaseHTTPRequestHandler, body: bytes) -> Answer:
    """Forward the entries that are let through; the others are refused as a throttled shard does it."""
    asked = json.loads(body)
    entries = asked["Records"]
    refused = {
        number
        for number, entry in enumerate(entries)
        if (faults.refuse_entry and faults.refuse_entry(entry)) or proxy.happens(faults.reject, "rejected")
    }
    results: list[Any] = []
    if len(refused) < len(entries):
        asked["Records"] = [entry for number, entry in enumerate(entries) if number not in refused]
        answer = proxy.forward(request.command, request.path, json.dumps(asked).encode(), dict(request.headers.items()))
        if answer.status != 200:
            return answer
        results = json.loads(answer.body)["Records"]
    given = iter(results)
    merged = [
        {"ErrorCode": THROTTLED, "ErrorMessage": "Rate exceeded for shard"} if number in refused else next(given)
        for number in range(len(entries))
    ]
    failed = sum("ErrorCode" in result and result["ErrorCode"] is not None for result in merged)
    return Answer(
        200, "application/x-amz-json-1.1", json.dumps({"FailedRecordCount": failed, "Records": merged}).encode()
    )
