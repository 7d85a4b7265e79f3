"""Parses and builds libpq connection strings. Errors never quote a connection string: it may hold a password."""

from __future__ import annotations

import os
from collections.abc import Mapping

import psycopg2  # noqa: TID251
import psycopg2.extensions  # noqa: TID251

from cdckit.errors import SourceError


def parse_dsn(dsn: str) -> dict[str, str]:
    """Split a connection string or URI into its parts. Raises SourceError."""
    try:
        parts: dict[str, str] = psycopg2.extensions.parse_dsn(dsn) if dsn else {}
    except psycopg2.ProgrammingError:
        raise _unusable() from None
    if "@" in parts.get("host", ""):  # an unescaped @ in a URI's password: libpq takes the rest of it for the host
        raise _unusable()
    return parts


def join_dsn(parts: Mapping[str, str]) -> str:
    """Build the connection string of these parts. Raises SourceError."""
    try:
        return psycopg2.extensions.make_dsn(**parts)
    except (psycopg2.Error, ValueError):
        raise _unusable() from None


def server_host(dsn: str) -> str:
    """Return the host that a connection string (or PGHOST) names; empty for a local socket. Raises SourceError."""
    return parse_dsn(dsn).get("host") or os.environ.get("PGHOST", "")


def _unusable() -> SourceError:
    return SourceError(
        "the connection string cannot be used (it is not shown: it may hold a password)",
        "fix --dsn (CDC_DSN): quote values with blanks (password='…'), in a URI write @ : / # ? of a password as %40 "
        "%3A %2F %23 %3F",
    )
