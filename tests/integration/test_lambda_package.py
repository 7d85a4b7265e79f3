"""``make package``: the same bytes each time, within Lambda's limits, and enough for the handler to work alone."""

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.lambda_function import Function
from tests.support.lambda_package import BUILDER, Package, build
from tests.support.local_aws import Cloud
from tests.support.postgres import Database
from tests.support.stream_audit import audit_stream

pytestmark = pytest.mark.integration


def test_the_handler_works_from_the_zip_alone(package: Package, postgres: Database, cloud: Cloud, stream: str) -> None:
    """Run without site-packages and checkout: only the standard library and the unpacked package."""
    environ = {
        **cloud.environ, "CDC_DSN": postgres.dsn, "CDC_SLOT": postgres.slot, "CDC_STREAM": stream,
        "CDC_LAMBDA_IDLE_SECONDS": "1",
    }  # fmt: skip
    function = Function(environ, seconds=120, code=[str(package.folder)])
    first = function.invoke()
    assert first.result.get("status") == "relayed", first
    postgres.run("CREATE TABLE t (id integer PRIMARY KEY)", "INSERT INTO t SELECT generate_series(1, 100)")
    assert function.invoke().result["changes"] == 100
    assert len(audit_stream(stream).positions) == 100


def test_two_builds_are_the_same_bytes_and_hold_no_secret(package: Package, tmp_path: Path) -> None:
    again = build(tmp_path, CDC_DSN="postgresql://cdc:pl4nted@db/shop", AWS_SECRET_ACCESS_KEY="pl4nted")
    assert hashlib.sha256(again.read_bytes()).digest() == hashlib.sha256(package.zip.read_bytes()).digest()
    with zipfile.ZipFile(again) as archive:
        assert not [name for name in archive.namelist() if b"pl4nted" in archive.read(name)]
        own = {name for name in archive.namelist() if name.startswith(("producer/", "cdckit/"))}
        assert {"producer/lambda_handler.py", "cdckit/runtime/settings.py"} <= own
        assert all(name.endswith(".py") for name in own)
        assert not any("__pycache__" in name or name.startswith("bin/") for name in archive.namelist())
        assert sum(entry.file_size for entry in archive.infolist()) < 250 * 1024**2
    assert again.stat().st_size < 50 * 1024**2


def test_a_file_beside_the_code_is_added(tmp_path: Path) -> None:
    bundle = tmp_path / "rds.pem"
    bundle.write_text("certificates")
    with zipfile.ZipFile(build(tmp_path / "out", "--add", str(bundle))) as archive:
        assert archive.read("rds.pem") == b"certificates"


def test_a_failed_build_is_reported(tmp_path: Path) -> None:
    for arguments, said in (
        (["--add", "nowhere.pem"], "no such file: nowhere.pem"),
        (["--python", "3.1"], "could not be installed"),
    ):
        command = [sys.executable, str(BUILDER), "--out", str(tmp_path), *arguments]
        refused = subprocess.run(command, capture_output=True, text=True, check=False)
        assert refused.returncode != 0
        assert said in refused.stderr
        assert not list(tmp_path.glob("*.zip"))
