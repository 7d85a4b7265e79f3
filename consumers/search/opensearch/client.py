"""Connects to OpenSearch, and translates its errors to the kit's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote, urlsplit

import boto3
from opensearchpy import OpenSearch, Urllib3AWSV4SignerAuth
from opensearchpy.exceptions import ConnectionError as Unreachable
from opensearchpy.exceptions import NotFoundError, TransportError

from cdckit.errors import SatelliteError, TransientSinkError

_TIMEOUT_SECONDS = 60
_AWS_HOST = re.compile(r"\.([a-z0-9-]+)\.(es|aoss)\.amazonaws\.com$")
_TRANSIENT = (429, 502, 503, 504)


def connect(url: str) -> OpenSearch:
    """A client. User and password come from the URL; without them requests to an AWS domain are signed."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    auth: Any = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
    if auth is None and (domain := _AWS_HOST.search(parts.hostname or "")):
        auth = Urllib3AWSV4SignerAuth(boto3.Session().get_credentials(), domain[1], domain[2])
    return OpenSearch(
        hosts=[{"host": parts.hostname, "port": port, "scheme": parts.scheme, "url_prefix": parts.path}],
        http_auth=auth,
        timeout=_TIMEOUT_SECONDS,
        max_retries=0,
        http_compress=parts.scheme == "https",
    )


def redacted(url: str) -> str:
    """The URL without its user and password."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}"


@contextmanager
def write_errors(url: str) -> Iterator[None]:
    """Translate a writer's errors: TransientSinkError if the same batch may succeed later, else SatelliteError."""
    try:
        yield
    except Unreachable as error:
        raise TransientSinkError(f"OpenSearch at {redacted(url)} cannot be reached: {error.error}") from error
    except TransportError as error:
        if error.status_code in _TRANSIENT:
            raise TransientSinkError(f"OpenSearch answers {error.status_code}: {_reason(error)}") from error
        raise _refused(url, error) from error


@contextmanager
def read_errors(url: str) -> Iterator[None]:
    """Translate the errors of a reader, which does not retry: SatelliteError."""
    try:
        yield
    except Unreachable as error:
        raise SatelliteError(
            f"OpenSearch at {redacted(url)} cannot be reached: {error.error}",
            "check [consumers.search] url in cdc.toml",
        ) from error
    except NotFoundError as error:
        raise SatelliteError(
            f"there is no search index at {redacted(url)}: {_reason(error)}",
            "cdcctl consumer run search creates and fills it",
        ) from error
    except TransportError as error:
        raise _refused(url, error) from error


def _refused(url: str, error: TransportError) -> SatelliteError:
    hint = "see the server's log"
    if error.status_code in (401, 403):
        hint = "put user and password into the url, or let the AWS role write to the domain"
    return SatelliteError(f"OpenSearch at {redacted(url)} answers {error.status_code}: {_reason(error)}", hint)


def _reason(error: TransportError) -> str:
    found = error.info.get("error", {}) if isinstance(error.info, dict) else {}
    reason = found.get("reason") if isinstance(found, dict) else found
    return str(reason or error.error)[:300]
