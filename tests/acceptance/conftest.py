"""Fixtures of the acceptance tests: each test has its own sandbox."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cdcctl.demo.child_processes import ChildProcesses
from cdcctl.sandbox import state
from cdckit.errors import CdcError
from cdckit.runtime.settings import Settings
from producer.postgres.connection import Source
from tests.support.postgres import open_folder, unavailable
from tests.support.sandbox_run import SandboxRun


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder that PostgreSQL's user may enter."""
    with open_folder() as made:
        yield made


@pytest.fixture
def whole(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SandboxRun]:
    """PostgreSQL, a local AWS with a stream of two shards, and the slot; nothing else runs yet."""
    try:
        stack = state.up(folder / "local", Settings())
    except CdcError as error:
        unavailable(error)
        raise
    environ = {"CDC_DATA": str(folder), "CDC_CONFIG": str(folder / "cdc.toml"), **stack.environ}
    (folder / "cdc.toml").write_text("")
    for name in [name for name in os.environ if name.startswith(("AWS_", "CDC_"))]:
        monkeypatch.delenv(name)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    source = Source(stack.cluster.dsn)
    made = SandboxRun(folder, stack, environ, ChildProcesses(folder / "logs", environ), source)
    try:
        yield made
    finally:
        source.close()
        made.parts.stop()
        stack.stop()
