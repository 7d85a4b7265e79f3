"""A sandbox of a test's own, with the parts that the test starts."""

import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cdcctl.demo.child_processes import ChildProcesses
from cdcctl.demo.workload import TABLES, Shop
from cdcctl.sandbox import state
from cdcctl.verify.run import compare_now
from cdckit.runtime.settings import Settings
from consumers.worker.status import Report, read_reports
from producer.postgres.connection import Source
from tests.support.cdcctl import run_cdcctl
from tests.support.waiting import wait_until


@dataclass
class SandboxRun:
    """A running sandbox, its parts, and the folder that they share."""

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
        """The current differences between a satellite and the tables."""
        return [
            str(difference) for difference in compare_now(self.source, Settings(data=str(self.folder)), name, TABLES)
        ]

    def reports(self, name: str) -> list[Report]:
        """The last reports of a consumer's shards."""
        return read_reports(self.folder, name)

    def wait_until_equal(self, *names: str, seconds: float = 60) -> None:
        """Wait until every satellite equals the tables."""
        deadline = time.monotonic() + seconds
        for name in names:
            self._wait_until_equal(name, max(0.0, deadline - time.monotonic()))

    def _wait_until_equal(self, name: str, seconds: float) -> None:
        found: list[str] = []

        def is_equal() -> bool:
            found[:] = self.differences(name)
            return not found

        wait_until(is_equal, seconds, lambda: f"{name} equals the tables: {found[:5]}\n{self.last_lines()}", 0.3)

    def last_lines(self) -> str:
        """The last lines of each log, and the position of each shard, for the message of a failure."""
        logs = [f"== {log.name}\n{log.read_text()[-1500:]}" for log in sorted((self.folder / "logs").glob("*.log"))]
        shards = [
            f"{name} {report.shard[-4:]}: read {report.read}, position {report.position}, "
            f"behind {report.millis_behind} ms, reported {time.time() - report.updated:.1f} s ago"
            for name in self.parts.running
            for report in self.reports(name)
        ]
        return "\n".join([*logs, *shards])

    def wait(self, condition: Callable[[], bool], seconds: float = 60) -> None:
        """Wait for a condition; a failure shows the ends of the logs."""
        wait_until(condition, seconds, self.last_lines)
