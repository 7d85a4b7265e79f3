"""A local AWS (ministack: Kinesis, DynamoDB, S3) on 127.0.0.1, its state kept in a folder."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path

from cdcctl.sandbox.kinesis.sequence import milliseconds
from cdcctl.sandbox.processes import Daemon, free_port, listening, wait_until
from cdckit.errors import StreamError
from cdckit.runtime.child_process import module_command

REGION = "us-east-1"


@dataclass(frozen=True, slots=True)
class Stored:
    """What the streams hold, and since when, in seconds since 1970 (None: nothing)."""

    bytes: int
    oldest: float | None


@dataclass(frozen=True, slots=True)
class LocalAws:
    """A local AWS's folder and port. Any key pair opens it, so it binds to loopback only."""

    folder: Path
    port: int

    @property
    def url(self) -> str:
        """The endpoint of every service."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def environ(self) -> dict[str, str]:
        """The standard AWS variables that make boto3, the KCL and the AWS CLI speak to it."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    @property
    def log(self) -> Path:
        """What it printed."""
        return self.folder / "ministack.log"

    @property
    def stored(self) -> Stored:
        """The records of all streams, from the names and sizes of their files."""
        files = [path for path in (self.folder / "state" / "records").rglob("*.jsonl") if path.stat().st_size]
        oldest = min((milliseconds(path.stem) / 1000 for path in files), default=None)
        return Stored(sum(path.stat().st_size for path in files), oldest)

    def start(self) -> Daemon:
        """Start it and wait until it answers. Raises StreamError when the package is not installed."""
        if importlib.util.find_spec("ministack") is None:
            raise StreamError("the local AWS (package ministack) is not installed", "pip install 'cdckit[local]'")
        settings = {
            "GATEWAY_PORT": str(self.port),
            "BIND_HOST": "127.0.0.1",
            "PERSIST_STATE": "1",
            "IOT_MTLS_ENABLED": "0",  # it would listen on every interface
            "SFTP_ENABLED": "0",
            "STATE_DIR": str(self.folder / "state"),
        }
        environ = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")} | settings
        daemon = Daemon.spawn(module_command("cdcctl.sandbox.kinesis.server"), self.log, environ, self.folder)
        wait_until(lambda: listening(self.port) or not daemon.alive, 30, "the local AWS", self.log)
        if not daemon.alive:
            raise StreamError("the local AWS stopped at once", f"see {self.log}")
        return daemon


def create(folder: Path) -> LocalAws:
    """The local AWS that belongs to `folder`, on a free port; not started yet."""
    folder.mkdir(parents=True, exist_ok=True)
    return LocalAws(folder, free_port())
