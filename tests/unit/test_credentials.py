"""The source's connection string with what AWS adds to it."""

import psycopg2.extensions
import pytest

from cdckit.errors import SourceError, UsageError
from cdckit.runtime.settings import Settings, resolve
from producer.postgres.credentials import SourceDsn

DSN = "host=db.example.internal user=cdc dbname=shop"


@pytest.fixture(autouse=True)
def aws(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGHOST", "PGUSER", "PGPORT", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in (("REGION", "eu-central-1"), ("ACCESS_KEY_ID", "AKIDEXAMPLE"), ("SECRET_ACCESS_KEY", "k3y")):
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")


def test_an_iam_token_is_for_this_host_port_and_user_and_asks_for_tls() -> None:
    parts = psycopg2.extensions.parse_dsn(SourceDsn(Settings(dsn=DSN, iam_auth="yes"))())
    assert parts["password"].startswith("db.example.internal:5432/?Action=connect&DBUser=cdc&")
    assert "X-Amz-Signature=" in parts["password"]
    assert (parts["sslmode"], parts["dbname"], parts["port"]) == ("require", "shop", "5432")
    assert "k3y" not in parts["password"]


def test_a_stricter_sslmode_stays() -> None:
    dsn = SourceDsn(Settings(dsn=f"{DSN} sslmode=verify-full sslrootcert=/var/task/rds.pem", iam_auth="yes"))()
    assert psycopg2.extensions.parse_dsn(dsn)["sslmode"] == "verify-full"


def test_without_host_or_user_there_is_no_token() -> None:
    with pytest.raises(SourceError, match="needs the host and the user"):
        SourceDsn(Settings(dsn="dbname=shop", iam_auth="yes"))()


def test_a_plain_connection_string_is_left_as_it_is() -> None:
    assert SourceDsn(Settings(dsn="postgresql://u:p@h/d"))() == "postgresql://u:p@h/d"
    assert SourceDsn(Settings())() == ""


def test_secret_and_token_exclude_each_other() -> None:
    with pytest.raises(UsageError, match="exclude each other"):
        resolve({"dsn_secret": "s", "iam_auth": "yes"}, {})
    with pytest.raises(UsageError, match="iam_auth cannot be"):
        resolve({"iam_auth": "maybe"}, {})
