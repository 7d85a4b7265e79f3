"""A whole stack of its own for each acceptance test, and `cdcctl` as a user runs it."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cdcctl.demo.child_processes import ChildProcesses
from cdcctl.demo.workload import TABLES, Shop
from cdcctl.sandbox import state
from cdcctl.verify.run import compare_now
from cdckit.errors import CdcError
from cdckit.runtime.settings import Settings
from consumers.worker.status import Report, read_reports
from producer.postgres.connection import Source
from tests.support.postgres import open_folder, unavailable


@dataclass
class Whole:
    """A running stack, its parts, and the folder they share."""

    folder: Path
    stack: state.Stack
    environ: Mapping[str, str]
    parts: ChildProcesses
    source: Source
    shop: Shop = field(init=False)

    def __post_init__(self) -> None:
        self.shop = Shop(self.source)

    def cdcctl(self, *arguments: str, **changed: str) -> subprocess.CompletedProcess[str]:
        """Run ``cdcctl ARGUMENTS`` to its end."""
        return run_cdcctl(*arguments, environ={**self.environ, **changed}, folder=self.folder)

    def differences(self, name: str) -> list[str]:
        """How a satellite differs from the tables now."""
        return [str(one) for one in compare_now(self.source, Settings(data=str(self.folder)), name, TABLES)]

    def reports(self, name: str) -> list[Report]:
        """The last reports of a consumer's shards."""
        return read_reports(self.folder, name)

    def wait_until_equal(self, *names: str, seconds: float = 60) -> None:
        """Every satellite must equal the tables in time."""
        deadline = time.monotonic() + seconds
        for name in names:
            while found := self.differences(name):
                assert time.monotonic() < deadline, f"{name}: {found[:5]}\n{self.told()}"
                time.sleep(0.3)

    def told(self) -> str:
        """What every part said last, and where every shard is: for the message of a test that failed."""
        logs = [f"== {log.name}\n{log.read_text()[-1500:]}" for log in sorted((self.folder / "logs").glob("*.log"))]
        shards = [
            f"{name} {one.shard[-4:]}: read {one.read}, position {one.position}, behind {one.millis_behind} ms, "
            f"told {time.time() - one.updated:.1f} s ago"
            for name in self.parts.running
            for one in self.reports(name)
        ]
        return "\n".join([*logs, *shards])

    def wait(self, condition: Callable[[], bool], seconds: float = 60) -> None:
        """Wait for a condition, while the parts live."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "did not happen in time"
            time.sleep(0.1)


def run_cdcctl(
    *arguments: str, environ: Mapping[str, str], folder: Path, timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run ``cdcctl`` in a clean environment."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("CDC_", "AWS_"))}
    return subprocess.run(
        [sys.executable, "-m", "cdcctl.main", *arguments],
        env={**clean, **environ}, cwd=folder, capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder that PostgreSQL's user may enter."""
    with open_folder() as made:
        yield made


@pytest.fixture
def whole(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Whole]:
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
    made = Whole(folder, stack, environ, ChildProcesses(folder / "logs", environ), source)
    try:
        yield made
    finally:
        source.close()
        made.parts.stop()
        stack.stop()
