"""Completes the source's connection string with a secret of Secrets Manager or an RDS IAM authentication token."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

import boto3
import msgspec
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from cdckit.errors import SourceError
from cdckit.runtime.settings import Settings, is_yes
from producer.postgres.dsn import join_dsn, parse_dsn

_CACHE_SECONDS = 300.0  # after a rotation the new password is in use at most this much later
_CONFIG = Config(connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 3})
_NAMES = {"username": "user", "host": "host", "port": "port", "dbname": "dbname"}
"""Keys of the secrets that RDS makes, and the parts of a connection string; managed secrets have only the first."""


class SourceDsn:
    """Returns the connection string for a new connection: `dsn`, completed by the secret or by a token.

    User and password come from the secret, everything else from `dsn` where it has it. Raises SourceError; no error
    quotes what the secret holds.
    """

    def __init__(self, settings: Settings) -> None:
        """Make no request before the first call."""
        self._settings = settings
        self._cached, self._until = "", 0.0

    def __call__(self) -> str:
        """Return the connection string for a connection that is opened now."""
        if is_yes(self._settings.iam_auth):
            return _with_token(parse_dsn(self._settings.dsn))
        if not self._settings.dsn_secret:
            return self._settings.dsn
        if time.monotonic() >= self._until:
            self._cached = _with_secret(parse_dsn(self._settings.dsn), self._settings.dsn_secret)
            self._until = time.monotonic() + _CACHE_SECONDS
        return self._cached


def _with_secret(parts: Mapping[str, str], name: str) -> str:
    text = _secret(name)
    if not text.lstrip().startswith("{"):
        try:
            return join_dsn({**parse_dsn(text), **parts})
        except SourceError as error:
            raise SourceError(
                f"the secret {name!r} is not a connection string that libpq accepts", error.hint
            ) from None
    fields = _fields(text, name)
    known = {ours: str(fields[theirs]) for theirs, ours in _NAMES.items() if theirs in fields}
    return join_dsn({**known, **parts, "user": known["user"], "password": str(fields["password"])})


def _fields(text: str, name: str) -> Mapping[str, object]:
    try:
        fields = msgspec.json.decode(text, type=dict[str, object])
    except msgspec.MsgspecError:
        fields = {}
    if not {"username", "password"} <= fields.keys():
        raise SourceError(
            f"the secret {name!r} is not a JSON object with username and password",
            'store {"username": "…", "password": "…"} (host, port and dbname may be there too), or a connection string',
        )
    return fields


def _secret(name: str) -> str:
    try:
        answer = boto3.client("secretsmanager", config=_CONFIG).get_secret_value(SecretId=name)
    except (ClientError, BotoCoreError) as error:
        raise SourceError(
            f"cannot read the secret {name!r}: {' '.join(str(error).split())}",
            "fix --dsn-secret (CDC_DSN_SECRET), or allow it: cdcctl aws policy producer; in a VPC without NAT it "
            "needs the endpoint of Secrets Manager",
        ) from error
    return str(answer.get("SecretString", ""))


def _with_token(parts: Mapping[str, str]) -> str:
    """Add a token: signed here without a request, valid to connect for 15 minutes; RDS requires TLS with it."""
    host, user = parts.get("host") or os.environ.get("PGHOST"), parts.get("user") or os.environ.get("PGUSER")
    port = parts.get("port") or os.environ.get("PGPORT") or "5432"
    if not host or not user:
        raise SourceError("IAM authentication needs the host and the user", "name both in --dsn (CDC_DSN)")
    try:
        token = boto3.client("rds", config=_CONFIG).generate_db_auth_token(host, int(port), user)
    except (ClientError, BotoCoreError, ValueError) as error:
        raise SourceError(
            f"cannot sign a token for {user} at {host}: {error}", "check AWS_REGION and the role"
        ) from error
    return join_dsn({"sslmode": "require", **parts, "host": host, "port": port, "user": user, "password": token})
