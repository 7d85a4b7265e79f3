"""Listens between clients and a local AWS and notes which API calls pass, whatever speaks: boto3, Java, Rust.

It passes bytes on as they are and reads along: HTTP/1.1, and HTTP/2 without TLS, which the KCL speaks to Kinesis.
"""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import cbor2
from hpack import Decoder
from hyperframe.frame import ContinuationFrame, DataFrame, Frame, HeadersFrame

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_SERVICES = {"Kinesis": "kinesis", "DynamoDB": "dynamodb", "secretsmanager": "secretsmanager", "AmazonSQS": "sqs"}


@dataclass(frozen=True)
class Call:
    """One API call as IAM sees it: `action` like ``dynamodb:GetItem``, `resource` what it names (table, bucket/key)."""

    action: str
    resource: str


_ON_OBJECTS = {
    "GET": "s3:GetObject", "HEAD": "s3:GetObject", "PUT": "s3:PutObject", "POST": "s3:PutObject",
    "DELETE": "s3:DeleteObject",
}  # fmt: skip


class WireTap:
    """Listens on a free port while it is entered; `calls` are what it has seen.

    The port is 127.0.0.2's: to the launcher that is not this machine, and so it does what it does on AWS.
    """

    def __init__(self, upstream: str, service: str = "") -> None:
        """`upstream` is the URL of the real (local) AWS; or of an OpenSearch, as whose domain `service` stands."""
        place, self._service = urlsplit(upstream), service
        self._upstream = (place.hostname or "127.0.0.1", place.port or 80)
        self.calls: set[Call] = set()
        self._server = socket.create_server(("127.0.0.2", 0), backlog=128)
        self._ended, self._open = False, list[socket.socket]()

    @property
    def url(self) -> str:
        return f"http://127.0.0.2:{self._server.getsockname()[1]}"

    def __enter__(self) -> WireTap:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        self._server.close()
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while not self._ended:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            upstream = socket.create_connection(self._upstream)
            for one in (client, upstream):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._open.append(one)
            threading.Thread(target=_serve, args=(client, upstream, _Ears(self)), daemon=True).start()

    def heard(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> None:
        """A request is complete."""
        if self._service:
            self.calls.add(Call(f"es:ESHttp{method.capitalize()}", f"{self._service}{urlsplit(path).path}"))
            return
        for call in _calls(method, path, headers, body):
            self.calls.add(call)
            if "x-amz-object-lock-mode" in headers:
                self.calls.add(Call("s3:PutObjectRetention", call.resource))


def _serve(client: socket.socket, upstream: socket.socket, ears: _Ears) -> None:
    with client, upstream:
        back = threading.Thread(target=_pass_on, args=(upstream, client, None), daemon=True)
        back.start()
        _pass_on(client, upstream, ears)
        back.join()


def _pass_on(source: socket.socket, sink: socket.socket, ears: _Ears | None) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
            if ears is not None:
                ears.hear(data)
    for end, how in ((sink, socket.SHUT_WR), (source, socket.SHUT_RD)):
        with suppress(OSError):
            end.shutdown(how)


class _Ears:
    """What one client sends on one connection."""

    def __init__(self, tap: WireTap) -> None:
        self._tap, self._buffer, self._second = tap, b"", False
        self._headers = Decoder()
        self._streams: dict[int, tuple[dict[str, str], bytearray]] = {}
        self._block = b""

    def hear(self, data: bytes) -> None:
        self._buffer += data
        if self._buffer.startswith(_PREFACE):
            self._second, self._buffer = True, self._buffer[len(_PREFACE) :]
        if self._second:
            self._hear_frames()
        elif not _PREFACE.startswith(self._buffer):
            while self._hear_request():
                pass

    def _hear_request(self) -> bool:
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return False
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", 0))
        if len(rest) < length:
            return False
        method, path, _ = first.split(" ", 2)
        self._buffer = rest[length:]
        self._tap.heard(method, path, headers, rest[:length])
        return True

    def _hear_frames(self) -> None:
        while len(self._buffer) >= 9:
            frame, length = Frame.parse_frame_header(memoryview(self._buffer[:9]))
            if len(self._buffer) < 9 + length:
                return
            frame.parse_body(memoryview(self._buffer[9 : 9 + length]))
            self._buffer = self._buffer[9 + length :]
            self._hear_frame(frame)

    def _hear_frame(self, frame: Any) -> None:
        if isinstance(frame, HeadersFrame | ContinuationFrame):
            self._block += frame.data
            if "END_HEADERS" in frame.flags:
                headers = {str(name).lower(): str(value) for name, value in self._headers.decode(self._block)}
                self._streams[frame.stream_id], self._block = (headers, bytearray()), b""
        elif isinstance(frame, DataFrame):
            self._streams[frame.stream_id][1].extend(frame.data)
        if "END_STREAM" in getattr(frame, "flags", ()):
            headers, body = self._streams.pop(frame.stream_id)
            self._tap.heard(headers[":method"], headers[":path"], headers, bytes(body))


def _calls(method: str, path: str, headers: Mapping[str, str], body: bytes) -> Sequence[Call]:
    service, _, operation = headers.get("x-amz-target", "").rpartition(".")
    if operation:
        name = next(mine for theirs, mine in _SERVICES.items() if service.startswith(theirs))
        return [Call(f"{name}:{operation}", _named(operation, body))]
    if match := re.fullmatch(r"/service/\w+/operation/(\w+)", urlsplit(path).path):
        return [Call(f"cloudwatch:{match[1]}", "")]
    form = parse_qs(body.decode("latin-1")) if b"Action=" in body else {}
    if "Action" in form:
        return [Call(f"cloudwatch:{form['Action'][0]}", "")]
    return list(_s3(method, path, body))


def _named(operation: str, body: bytes) -> str:
    """What a body (JSON, or the KCL's CBOR) names, as its ARN ends; empty when it is named by what came before."""
    try:
        asked = json.loads(body or b"{}")
    except ValueError:
        asked = cbor2.loads(body)
    if table := asked.get("TableName", "").rpartition("/")[2]:
        return f"{table}/index/{asked['IndexName']}" if "IndexName" in asked else table
    stream = asked.get("StreamName") or asked.get("StreamARN", "").partition("stream/")[2]
    if operation == "DescribeStreamConsumer" and "ConsumerName" in asked:
        return f"{stream}/consumer/{asked['ConsumerName']}:0"
    consumer = asked.get("ConsumerARN", "").partition("stream/")[2]
    return str(consumer or stream or asked.get("SecretId") or asked.get("QueueUrl", "").rpartition("/")[2])


def _s3(method: str, path: str, body: bytes) -> Iterator[Call]:
    """S3 is REST: which action a method on a path is."""
    parts = urlsplit(path)
    bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
    query = parse_qs(parts.query, keep_blank_values=True)
    if "delete" in query:
        for name in re.findall(rb"<Key>(.*?)</Key>", body):
            yield Call("s3:DeleteObject", f"{bucket}/{name.decode()}")
    elif bucket and not key:
        yield Call("s3:ListBucket" if method in ("GET", "HEAD") else f"s3:{method}", bucket)
    elif "uploadId" in query and method == "DELETE":
        yield Call("s3:AbortMultipartUpload", f"{bucket}/{key}")
    elif bucket:
        yield Call(_ON_OBJECTS[method], f"{bucket}/{key}")
