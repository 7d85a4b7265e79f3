"""Sends one PutRecords request: a body of ready JSON text, signed by botocore, over botocore's pooled connections.

boto3's put_records spends most of a producer's CPU on serializing each record. Here the entries arrive as JSON text and
are only joined. Credentials, endpoint, TLS and proxies are botocore's, by the standard settings.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import boto3
import msgspec
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSPreparedRequest, AWSRequest
from botocore.exceptions import BotoCoreError, HTTPClientError
from botocore.httpsession import URLLib3Session
from botocore.utils import get_environ_proxies
from pybase64 import b64decode, b64encode

if TYPE_CHECKING:
    from mypy_boto3_kinesis import KinesisClient

CONNECT_SECONDS = 5
READ_SECONDS = 10
_NO_DELAY = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]  # else the body's last bytes wait 40 ms for an ACK
_HEADERS = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "Kinesis_20131202.PutRecords"}
CREDENTIAL_ERRORS = frozenset(
    (
        "ExpiredTokenException",
        "ExpiredToken",
        "UnrecognizedClientException",
        "InvalidSignatureException",
        "IncompleteSignatureException",
        "MissingAuthenticationTokenException",
        "NoCredentials",
    )
)
"""Errors that fresh credentials fix: they are looked up before the next try."""

_string = msgspec.json.Encoder()


class EntryResult(msgspec.Struct):
    """The result of one entry: the shard that accepted it, or the code with which it was refused."""

    shard: str | None = msgspec.field(name="ShardId", default=None)
    code: str | None = msgspec.field(name="ErrorCode", default=None)
    message: str | None = msgspec.field(name="ErrorMessage", default=None)


class RequestFailed(Exception):
    """The request as a whole was refused or not answered; whether Kinesis has the records is then unknown."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}" if message else code)
        self.code, self.message = code, message


class Put(Protocol):
    """What the publisher needs of Kinesis; several threads call it at once."""

    def __call__(self, entries: bytes, count: int) -> Sequence[EntryResult]:
        """Put `count` entries (as `encode_entry` makes them, joined by commas); return one result per entry.

        Raises RequestFailed.
        """


def encode_entry(data: bytes, partition_key: str, hash_key: str | None = None) -> bytes:
    """Return the JSON text of one entry of a PutRecords request."""
    end = b"}" if hash_key is None else b',"ExplicitHashKey":"%b"}' % hash_key.encode()
    return b"".join((b'{"Data":"', b64encode(data), b'","PartitionKey":', _string.encode(partition_key), end))


def decode_entry(entry_text: bytes) -> bytes:
    """Return the data of an entry."""
    return b64decode(msgspec.json.decode(entry_text)["Data"])


class _Response(msgspec.Struct):
    records: list[EntryResult] = msgspec.field(name="Records")


class _Refusal(msgspec.Struct):
    kind: str = msgspec.field(name="__type", default="")
    message: str = ""
    Message: str = ""


_response = msgspec.json.Decoder(_Response)


class PutRecords:
    """Puts records on one stream. `client` only provides the endpoint and the region."""

    def __init__(self, client: KinesisClient, stream: str, connections: int) -> None:
        """Use the standard AWS settings; credentials are looked up at the first request."""
        self._url = client.meta.endpoint_url.rstrip("/") + "/"
        self._region = client.meta.region_name
        self._head = b'{"StreamName":%b,"Records":[' % _string.encode(stream)
        self._session = boto3.Session()
        self._credentials = self._session.get_credentials()
        self._http = URLLib3Session(
            verify=_authorities(self._session),  # type: ignore[arg-type]
            proxies=get_environ_proxies(self._url),
            timeout=(CONNECT_SECONDS, READ_SECONDS),  # type: ignore[arg-type]
            max_pool_connections=connections,
            socket_options=_NO_DELAY,  # type: ignore[arg-type]
        )

    def __call__(self, entries: bytes, count: int) -> Sequence[EntryResult]:
        """See `Put`."""
        try:
            response = self._http.send(self._signed(b"%b%b]}" % (self._head, entries)))
        except HTTPClientError as error:
            raise RequestFailed(type(error).__name__, " ".join(str(error).split())) from error
        except BotoCoreError as error:  # the look-up of credentials failed
            self._credentials = None
            raise RequestFailed("NoCredentials", str(error)) from error
        if response.status_code != 200:
            raise self._error(response.status_code, response.content)
        return self._results(response.content, count)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _signed(self, body: bytes) -> AWSPreparedRequest:
        if self._credentials is None:  # refused credentials were dropped: read files and roles again
            self._session = boto3.Session()
            self._credentials = self._session.get_credentials()
        if self._credentials is None:
            raise RequestFailed("NoCredentials", "no AWS credentials were found")
        request = AWSRequest("POST", self._url, dict(_HEADERS), body)
        SigV4Auth(self._credentials, "kinesis", self._region).add_auth(request)
        return request.prepare()

    def _error(self, status: int, content: bytes) -> RequestFailed:
        try:
            refusal = msgspec.json.decode(content, type=_Refusal)
        except msgspec.DecodeError:
            refusal = _Refusal(message=content[:200].decode(errors="replace"))
        code = refusal.kind.rpartition("#")[2] or f"HTTP{status}"
        if code in CREDENTIAL_ERRORS:
            self._credentials = None
        return RequestFailed(code, refusal.message or refusal.Message)

    @staticmethod
    def _results(content: bytes, expected: int) -> Sequence[EntryResult]:
        try:
            results = _response.decode(content).records
        except msgspec.DecodeError as error:
            raise RequestFailed("UnreadableAnswer", str(error)) from error
        if len(results) != expected:
            raise RequestFailed("UnreadableAnswer", f"{len(results)} results for {expected} records")
        return results


def _authorities(session: boto3.Session) -> bool | str:
    """Return the CA bundle that AWS_CA_BUNDLE or the profile's ca_bundle names, else True for botocore's own."""
    return session._session.get_config_variable("ca_bundle") or True
