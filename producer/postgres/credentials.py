"""The source's connection string, completed by a secret of Secrets Manager or a token of RDS IAM authentication."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

import boto3
import msgspec
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from cdckit.errors import SourceError
from cdckit.runtime.settings import Settings, yes
from producer.postgres.connection import join, parse

_KEEP_SECONDS = 300.0  # after a rotation the new password is known this late at the most
_CONFIG = Config(connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 3})
_NAMES = {"username": "user", "host": "host", "port": "port", "dbname": "dbname"}
"""What the secrets that RDS makes call the parts of a connection string; those it manages have only the first."""


class SourceDsn:
    """Called for each connection. `dsn` itself; with the secret's user and password; or with a token in its place.

    A secret wins over `dsn` in user and password, `dsn` over the secret in all else. Raises SourceError; neither it
    nor anything else here quotes what the secret holds.
    """

    def __init__(self, settings: Settings) -> None:
        """Nothing is asked before the first call."""
        self._settings = settings
        self._made, self._until = "", 0.0

    def __call__(self) -> str:
        """The connection string for a connection that is made now."""
        if yes(self._settings.iam_auth):
            return _with_token(parse(self._settings.dsn))
        if not self._settings.dsn_secret:
            return self._settings.dsn
        if time.monotonic() >= self._until:
            self._made = _with_secret(parse(self._settings.dsn), self._settings.dsn_secret)
            self._until = time.monotonic() + _KEEP_SECONDS
        return self._made


def _with_secret(parts: Mapping[str, str], name: str) -> str:
    text = _secret(name)
    if not text.lstrip().startswith("{"):
        try:
            return join({**parse(text), **parts})
        except SourceError as error:
            raise SourceError(f"the secret {name!r} holds no connection string that libpq takes", error.hint) from None
    found = _fields(text, name)
    known = {ours: str(found[theirs]) for theirs, ours in _NAMES.items() if theirs in found}
    return join({**known, **parts, "user": known["user"], "password": str(found["password"])})


def _fields(text: str, name: str) -> Mapping[str, object]:
    try:
        found = msgspec.json.decode(text, type=dict[str, object])
    except msgspec.MsgspecError:
        found = {}
    if not {"username", "password"} <= found.keys():
        raise SourceError(
            f"the secret {name!r} is no JSON object with username and password",
            'store {"username": "…", "password": "…"} (host, port and dbname may be there too), or a connection string',
        )
    return found


def _secret(name: str) -> str:
    try:
        answer = boto3.client("secretsmanager", config=_CONFIG).get_secret_value(SecretId=name)
    except (ClientError, BotoCoreError) as error:
        raise SourceError(
            f"cannot read the secret {name!r}: {' '.join(str(error).split())}",
            "mend --dsn-secret (CDC_DSN_SECRET), or allow it: cdcctl aws policy producer; in a VPC without NAT it "
            "needs the endpoint of Secrets Manager",
        ) from error
    return str(answer.get("SecretString", ""))


def _with_token(parts: Mapping[str, str]) -> str:
    """A token is signed here, without a request, and opens connections for 15 minutes; RDS takes it over TLS only."""
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
    return join({"sslmode": "require", **parts, "host": host, "port": port, "user": user, "password": token})
