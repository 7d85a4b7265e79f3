"""Runs the demo: starts the parts, drives the workload, shows it, waits until the satellites follow, compares."""

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
from cdcctl.health.look import Looker
from cdcctl.showcase.parts import Parts
from cdcctl.showcase.screen import Watcher, screen
from cdcctl.showcase.shots import save_shots
from cdcctl.showcase.workload import HERO, TABLES, Shop
from cdcctl.stack import state
from cdcctl.top import History, frame
from cdcctl.verification.run import differences_now
from cdckit.errors import CdcError
from cdckit.settings import Settings, resolve
from cdckit.signals import Stopping
from consumers.figures import Report, merged_latencies, quantile, read_reports
from producer.source import Source

CONSUMERS = ("search", "parquet", "audit")
_TOTALS = "select status, count(*) as orders, sum(total) as total from orders group by status order by orders desc"
QUERIES = (
    ("search", "query", "shirt AND (blue OR green)", "--table", "public.products"),
    ("parquet", "query", _TOTALS),
    ("audit", "history", "public.orders", str(HERO)),
)
_RATE = 25.0
_LOOKS = 12
_PATIENCE = 60.0  # seconds for the consumers to come up
_CONVERGE = 25.0  # seconds for the satellites to follow the last change


@dataclass(frozen=True, slots=True)
class SatelliteSummary:
    """One satellite at the end. Latencies are of the changes after all consumers had caught up."""

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
    """The demo's result."""

    satellites: Mapping[str, SatelliteSummary]
    changes: int
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """One JSON object."""
        return asdict(self)


@dataclass(slots=True)
class Demonstration:
    """One run of the demo in a folder of its own, which is emptied first."""

    folder: Path
    quiet: bool = False
    _stack: state.Stack | None = None
    _parts: Parts | None = None
    _began: float = field(default_factory=time.time)
    _caught_up: dict[str, Mapping[int, int]] = field(default_factory=dict)

    @property
    def environ(self) -> dict[str, str]:
        """The variables under which the demo's parts run, and a user may look at them."""
        assert self._stack is not None
        config = str(self.folder / "cdc.toml")
        return {"CDC_DATA": str(self.folder), "CDC_CONFIG": config, **self._stack.environ}

    def run(self, seconds: int, stopping: Stopping, svg: Path | None) -> Summary | None:
        """The whole demo; None when it was interrupted. Raises CdcError when a part does not do its work."""
        self._start()
        assert self._stack is not None
        source = Source(self._stack.cluster.dsn)
        try:
            shop = Shop(source)
            shop.create()
            with _Background(lambda ended: Shop.run(shop, _RATE, ended)) as work:
                finished = self._watch(seconds, stopping, work, svg)
            return self._conclude(source, stopping) if finished else None
        finally:
            source.close()

    def show_queries(self) -> None:
        """Run each query as the user would type it."""
        for query in QUERIES:
            output.print_text(f"\n[bold green]$[/] [bold]cdcctl {output.escape(shlex.join(query))}[/]")
            sys.stdout.flush()
            subprocess.run(
                [sys.executable, "-m", "cdcctl.main", *query], env={**os.environ, **self.environ}, check=False
            )

    def stop(self) -> None:
        """End every process of the demo."""
        if self._parts is not None:
            self._parts.stop()
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
        self._parts = Parts(self.folder / "logs", self.environ)
        self._parts.start("producer", ["producer", "run"])
        for name in CONSUMERS:
            self._parts.start(name, ["consumer", "run", name])
        state.adopt(self._stack, self._parts.running)
        output.note("started the producer and three KCL consumers (Java takes some seconds); changing rows meanwhile …")

    def _watch(self, seconds: int, stopping: Stopping, work: _Background, svg: Path | None) -> bool:
        watcher = Watcher(Settings().stream, stopping=lambda: stopping.is_set() or work.ended.is_set())
        watcher.start()
        console, up_at, deadline = output.stderr(), 0.0, time.monotonic() + _PATIENCE
        with output.live(console) as display:
            while not stopping.wait(0.2):
                work.check()
                self._check_parts()
                frame = screen(self._title(up_at), watcher, self.folder, CONSUMERS)
                if console.is_terminal:
                    display.update(frame)
                if not up_at and self._all_follow(deadline):
                    up_at = time.monotonic()
                if up_at and time.monotonic() - up_at > seconds:
                    break
        if svg is not None:
            output.save_svg(screen(self._title(up_at), watcher, self.folder, CONSUMERS), svg, "cdcctl demo")
            output.save_svg(self._status(), svg.with_name("status.svg"), "cdcctl top")
            save_shots(svg.parent, self.environ)
        return not stopping.is_set()

    def _status(self) -> output.Screen:
        """What `cdcctl top` shows of the demo, after some looks."""
        looker, history = Looker(resolve({}, os.environ)[0]), History()
        for _ in range(_LOOKS):
            history.add(looker.look())
            time.sleep(1)
        return frame(history, output.SVG_COLUMNS)

    def _title(self, up_at: float) -> str:
        where = "PostgreSQL → slot → producer → Kinesis → 3 × KCL → search, Parquet, audit"
        return f"cdcctl demo   {time.time() - self._began:.0f} s   {where}" + (
            "" if up_at else "   (consumers are starting)"
        )

    def _check_parts(self) -> None:
        assert self._parts is not None
        self._parts.check()

    def _all_follow(self, deadline: float) -> bool:
        reports = {name: read_reports(self.folder, name) for name in CONSUMERS}
        follows = all(_follows(shards) for shards in reports.values())
        if follows:
            self._caught_up = {name: merged_latencies(shards) for name, shards in reports.items()}
            output.note(f"all three consumers follow after {time.time() - self._began:.0f} s")
        elif time.monotonic() > deadline:
            late = [name for name, shards in reports.items() if not _follows(shards)]
            raise CdcError(f"{', '.join(late)} did not start within {_PATIENCE:.0f} s", f"see {self.folder / 'logs'}")
        return follows

    def _conclude(self, source: Source, stopping: Stopping) -> Summary | None:
        output.note("the workload has ended; comparing every row of each satellite with the database …")
        deadline = time.monotonic() + _CONVERGE
        found: dict[str, list[str]] = {}
        for name in CONSUMERS:
            found[name] = self._differences(source, name)
            while found[name] and time.monotonic() < deadline and not stopping.wait(0.3):
                self._check_parts()
                found[name] = self._differences(source, name)
        if stopping.is_set():
            return None
        satellites = {name: self._summary(name, found[name]) for name in CONSUMERS}
        return Summary(satellites, max(one.changes for one in satellites.values()), round(time.time() - self._began, 1))

    def _differences(self, source: Source, name: str) -> list[str]:
        return [str(item) for item in differences_now(source, Settings(data=str(self.folder)), name, TABLES)]

    def _summary(self, name: str, found: list[str]) -> SatelliteSummary:
        reports = read_reports(self.folder, name)
        live = Counter(merged_latencies(reports))
        live.subtract(self._caught_up.get(name, {}))
        first = min((report.first_change for report in reports if report.first_change), default=None)
        return SatelliteSummary(
            equal=not found,
            changes=sum(report.applied for report in reports),
            first_change_seconds=round(first - self._began, 1) if first else None,
            p50_ms=quantile(live, 0.5),
            p99_ms=quantile(live, 0.99),
            read=sum(report.read for report in reports),
            superseded=sum(report.superseded for report in reports),
            dead_lettered=sum(report.dead_lettered for report in reports),
            differences=found[:10],
        )


def _follows(shards: list[Report]) -> bool:
    return len(shards) == state.SHARDS and all(report.millis_behind == 0 and report.read for report in shards)


class _Background:
    """Runs something in a thread until the block ends; what it raised comes out."""

    def __init__(self, work: Any) -> None:
        self.ended = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(work,), name="demo-workload", daemon=True)

    def __enter__(self) -> _Background:
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self.ended.set()
        self._thread.join(timeout=15)
        if failure[0] is None:
            self.check()

    def check(self) -> None:
        """Raise what the work raised."""
        if self._error is not None:
            raise self._error

    def _run(self, work: Any) -> None:
        try:
            work(self.ended.is_set)
        except BaseException as error:  # handed to the main thread
            self._error = error
