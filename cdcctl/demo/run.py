"""Runs the demo: starts the processes and the workload, shows them, and compares the satellites at the end."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cdcctl import output
from cdcctl.demo.child_processes import ChildProcesses
from cdcctl.demo.screen import StreamWatcher, screen
from cdcctl.demo.screenshots import save_screenshots
from cdcctl.demo.workload import TABLES, TRACKED_ORDER, Shop
from cdcctl.sandbox import state
from cdcctl.status.collect import StatusCollector
from cdcctl.status.top import History, frame
from cdcctl.verify.run import compare_now
from cdckit.errors import CdcError
from cdckit.runtime.child_process import module_command
from cdckit.runtime.settings import Settings, resolve
from cdckit.runtime.signals import StopFlag
from consumers.worker.status import Report, merged_latencies, quantile, read_reports
from producer.postgres.connection import Source

CONSUMERS = ("search", "parquet", "audit")
_TOTALS = "select status, count(*) as orders, sum(total) as total from orders group by status order by orders desc"
QUERIES = (
    ("search", "query", "shirt AND (blue OR green)", "--table", "public.products"),
    ("parquet", "query", _TOTALS),
    ("audit", "history", "public.orders", str(TRACKED_ORDER)),
)
_RATE = 25.0
_STATUS_SAMPLES = 12
_STARTUP_TIMEOUT = 60.0  # seconds for the consumers to start and catch up
_CONVERGENCE_TIMEOUT = 25.0  # seconds for the satellites to apply the last change


@dataclass(frozen=True, slots=True)
class SatelliteSummary:
    """The result of one satellite. Latencies cover the changes after all consumers had caught up."""

    equal: bool
    changes: int
    first_change_seconds: float | None
    p50_ms: float | None
    p99_ms: float | None
    read: int
    superseded: int
    dead_lettered: int
    differences: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Summary:
    """The result of the demo."""

    satellites: Mapping[str, SatelliteSummary]
    changes: int
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """The summary as one JSON object."""
        return asdict(self)


@dataclass(slots=True)
class DemoRun:
    """One run of the demo, in a folder that is emptied first."""

    folder: Path
    quiet: bool = False
    _stack: state.Stack | None = None
    _children: ChildProcesses | None = None
    _started: float = field(default_factory=time.time)
    _caught_up: dict[str, Mapping[int, int]] = field(default_factory=dict)

    @property
    def environ(self) -> dict[str, str]:
        """The environment variables of the demo's processes; a user can set them to query the demo."""
        assert self._stack is not None
        config = str(self.folder / "cdc.toml")
        return {"CDC_DATA": str(self.folder), "CDC_CONFIG": config, **self._stack.environ}

    def run(self, seconds: int, stopping: StopFlag, svg: Path | None) -> Summary | None:
        """Run the demo; None when it was interrupted. Raises CdcError when a process fails."""
        self._start()
        assert self._stack is not None
        source = Source(self._stack.cluster.dsn)
        try:
            shop = Shop(source)
            shop.create()
            with _BackgroundTask(lambda ended: Shop.run(shop, _RATE, ended)) as workload:
                finished = self._watch(seconds, stopping, workload, svg)
            return self._conclude(source, stopping) if finished else None
        finally:
            source.close()

    def show_queries(self) -> None:
        """Run each example query as a `cdcctl` command."""
        for query in QUERIES:
            output.print_text(f"\n[bold green]$[/] [bold]cdcctl {output.escape(shlex.join(query))}[/]")
            sys.stdout.flush()
            subprocess.run(module_command("cdcctl.main", *query), env={**os.environ, **self.environ}, check=False)

    def stop(self) -> None:
        """Stop every process of the demo."""
        if self._children is not None:
            self._children.stop()
        if self._stack is not None:
            self._stack.stop()

    def _start(self) -> None:
        output.note("starting a private PostgreSQL and a local AWS …")
        state.reset(self.folder / "local")
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        (self.folder / "cdc.toml").write_text("# the demo's settings are in its environment\n")
        for name in [name for name in os.environ if name.startswith(("CDC_", "AWS_")) and name != "CDC_PG_BIN"]:
            del os.environ[name]
        self._stack = state.up(self.folder / "local", Settings())
        os.environ.update(self.environ)
        self._children = ChildProcesses(self.folder / "logs", self.environ)
        self._children.start("producer", ["producer", "run"])
        for name in CONSUMERS:
            self._children.start(name, ["consumer", "run", name])
        state.adopt(self._stack, self._children.running)
        output.note("started the producer and three KCL consumers (Java needs a few seconds); the workload runs …")

    def _watch(self, seconds: int, stopping: StopFlag, workload: _BackgroundTask, svg: Path | None) -> bool:
        watcher = StreamWatcher(Settings().stream, stopping=lambda: stopping.is_set() or workload.ended.is_set())
        watcher.start()
        console, caught_up_at, deadline = output.stderr(), 0.0, time.monotonic() + _STARTUP_TIMEOUT
        with output.live(console) as display:
            while not stopping.wait(0.2):
                workload.check()
                self._check_children()
                frame = screen(self._title(caught_up_at), watcher, self.folder, CONSUMERS)
                if console.is_terminal:
                    display.update(frame)
                if not caught_up_at and self._all_follow(deadline):
                    caught_up_at = time.monotonic()
                if caught_up_at and time.monotonic() - caught_up_at > seconds:
                    break
        if svg is not None:
            output.save_svg(screen(self._title(caught_up_at), watcher, self.folder, CONSUMERS), svg, "cdcctl demo")
            output.save_svg(self._status(), svg.with_name("status.svg"), "cdcctl top")
            save_screenshots(svg.parent, self.environ)
        return not stopping.is_set()

    def _status(self) -> output.Screen:
        """The screen of `cdcctl top` after a few samples."""
        collector, history = StatusCollector(resolve({}, os.environ)[0]), History()
        for _ in range(_STATUS_SAMPLES):
            history.add(collector.collect())
            time.sleep(1)
        return frame(history, output.SVG_COLUMNS)

    def _title(self, caught_up_at: float) -> str:
        where = "PostgreSQL → slot → producer → Kinesis → 3 × KCL → search, Parquet, audit"
        return f"cdcctl demo   {time.time() - self._started:.0f} s   {where}" + (
            "" if caught_up_at else "   (consumers are starting)"
        )

    def _check_children(self) -> None:
        assert self._children is not None
        self._children.check()

    def _all_follow(self, deadline: float) -> bool:
        reports = {name: read_reports(self.folder, name) for name in CONSUMERS}
        follows = all(_follows(shards) for shards in reports.values())
        if follows:
            self._caught_up = {name: merged_latencies(shards) for name, shards in reports.items()}
            output.note(f"all three consumers have caught up after {time.time() - self._started:.0f} s")
        elif time.monotonic() > deadline:
            late = [name for name, shards in reports.items() if not _follows(shards)]
            text = f"{', '.join(late)} did not start within {_STARTUP_TIMEOUT:.0f} s"
            raise CdcError(text, f"see {self.folder / 'logs'}")
        return follows

    def _conclude(self, source: Source, stopping: StopFlag) -> Summary | None:
        output.note("the workload has ended; comparing every row of each satellite with the database …")
        deadline = time.monotonic() + _CONVERGENCE_TIMEOUT
        found: dict[str, list[str]] = {}
        for name in CONSUMERS:
            found[name] = self._differences(source, name)
            while found[name] and time.monotonic() < deadline and not stopping.wait(0.3):
                self._check_children()
                found[name] = self._differences(source, name)
        if stopping.is_set():
            return None
        satellites = {name: self._summary(name, found[name]) for name in CONSUMERS}
        changes = max(satellite.changes for satellite in satellites.values())
        return Summary(satellites, changes, round(time.time() - self._started, 1))

    def _differences(self, source: Source, name: str) -> list[str]:
        return [str(difference) for difference in compare_now(source, Settings(data=str(self.folder)), name, TABLES)]

    def _summary(self, name: str, found: list[str]) -> SatelliteSummary:
        reports = read_reports(self.folder, name)
        live = Counter(merged_latencies(reports))
        live.subtract(self._caught_up.get(name, {}))
        first = min((report.first_change for report in reports if report.first_change), default=None)
        return SatelliteSummary(
            equal=not found,
            changes=sum(report.applied for report in reports),
            first_change_seconds=round(first - self._started, 1) if first else None,
            p50_ms=quantile(live, 0.5),
            p99_ms=quantile(live, 0.99),
            read=sum(report.read for report in reports),
            superseded=sum(report.superseded for report in reports),
            dead_lettered=sum(report.dead_lettered for report in reports),
            differences=found[:10],
        )


def _follows(shards: list[Report]) -> bool:
    return len(shards) == state.SHARDS and all(report.millis_behind == 0 and report.read for report in shards)


class _BackgroundTask:
    """Runs a function in a thread until the block ends, and raises its exception in the main thread."""

    def __init__(self, work: Any) -> None:
        self.ended = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(work,), name="demo-workload", daemon=True)

    def __enter__(self) -> _BackgroundTask:
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self.ended.set()
        self._thread.join(timeout=15)
        if failure[0] is None:
            self.check()

    def check(self) -> None:
        """Raise the exception of the function, if there is one."""
        if self._error is not None:
            raise self._error

    def _run(self, work: Any) -> None:
        try:
            work(self.ended.is_set)
        except BaseException as error:  # raised in the main thread by check()
            self._error = error
