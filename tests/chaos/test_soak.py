"""A soak: a million changes through everything, and what each process holds at the start and at the end: the same.

It runs only with CDC_CHAOS=full (`make chaos ARGS='-k soak'`, some twenty minutes), and writes ``build/soak.json``.
"""

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from cdcctl.demo.child_processes import ChildProcesses
from consumers.worker.status import read_reports
from tests.acceptance.conftest import run_cdcctl
from tests.chaos.test_kit import wait_until
from tests.chaos.test_ways import slot_is_read
from tests.support.kcl_parts import parts_in
from tests.support.postgres import Database
from tests.support.processes import descendants
from tests.support.resharding_aws import ReshardingCloud
from tests.support.scale import FULL

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not FULL, reason="a million changes: make chaos"),
]
SATELLITES = ("search", "parquet", "audit", "replica")
CHANGES, ROWS, AT_ONCE = 1_000_000, 20_000, 2_000
START = CHANGES // 4  # caches are full by then, pools have their threads, the JVM its classes
_AHEAD = 20_000
_LOOKS, _LOOK_SECONDS = 4, 5.0  # what lets go of a thread or a file that is idle (delta-rs: after 10 s) has time to
_MOST_GROWTH, _MOST_MB = 0.15, 25
REPORT = Path("build/soak.json")


@dataclass(frozen=True, slots=True)
class Held:
    """What one process holds."""

    rss_mb: int
    descriptors: int
    threads: int


def test_a_million_changes_leave_every_process_as_it_was(
    tmp_path: Path, resharding: ReshardingCloud, postgres: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = resharding.make_stream()
    environ = {
        "CDC_DSN": postgres.dsn, "CDC_SLOT": postgres.slot, "CDC_STREAM": stream, "CDC_APP_PREFIX": stream,
        "CDC_AGGREGATE": "yes", "CDC_CHECKPOINT_SECONDS": "5",
    }  # fmt: skip
    postgres.run(
        "CREATE TABLE soak (id integer PRIMARY KEY, n integer, note text)",
        f"INSERT INTO soak SELECT i, 0, md5(i::text) FROM generate_series(1, {ROWS}) i",
    )
    with parts_in(tmp_path, resharding, monkeypatch, **environ) as parts:
        parts.start("producer", ["producer", "run"])
        wait_until(lambda: slot_is_read(postgres), 90, parts)
        for name in SATELLITES:
            parts.start(name, ["consumer", "run", name])
        postgres.run("UPDATE soak SET n = -1")  # so that each satellite has every row
        begun = time.monotonic()
        watched = Watched(parts, tmp_path)
        for number in range(1, (CHANGES - ROWS) // AT_ONCE + 1):
            turn(postgres, number)
            wait_until(lambda done=number * AT_ONCE: watched.slowest > done + ROWS - _AHEAD, 600, parts)  # type: ignore[misc]
        wait_until(lambda: watched.slowest >= CHANGES, 600, parts)
        end, seconds = watched.held(), time.monotonic() - begun
        for name in SATELLITES:
            done = run_cdcctl(
                "verify", name, "--timeout", "300", environ=dict(parts.environ), folder=tmp_path, timeout=900
            )
            assert done.returncode == 0, f"{name}: {done.stdout}{done.stderr}"
    tell(watched.start, end, seconds)
    assert watched.start.keys() == end.keys(), "a process ended and was started again"
    for name, before in watched.start.items():
        after = end[name]
        assert after.descriptors <= before.descriptors + 5, name
        assert after.threads <= before.threads + 5, name
        assert after.rss_mb <= before.rss_mb * (1 + _MOST_GROWTH) + _MOST_MB, name


def turn(postgres: Database, number: int) -> None:
    """Exactly AT_ONCE changes in one transaction: most are updates, some rows go and come back."""
    first = number * AT_ONCE % ROWS
    gone = AT_ONCE // 10
    postgres.run(
        f"UPDATE soak SET n = {number}, note = md5('{number}' || id) "
        f"WHERE id > {first} AND id <= {first + AT_ONCE - 2 * gone}",
        f"DELETE FROM soak WHERE id > {first} AND id <= {first + gone}",
        f"INSERT INTO soak SELECT i, {number}, 'again' FROM generate_series({first + 1}, {first + gone}) i",
    )


class Watched:
    """The parts while changes go through; `start` is what they held after a quarter."""

    def __init__(self, parts: ChildProcesses, folder: Path) -> None:
        self._parts, self._folder = parts, folder
        self.start: Mapping[str, Held] = {}

    @property
    def slowest(self) -> int:
        """How many changes the slowest satellite has read."""
        self._parts.check()
        read = min(sum(one.read for one in read_reports(self._folder, name)) for name in SATELLITES)
        if read >= START and not self.start:
            self.start = self.held()
        return read

    def held(self) -> dict[str, Held]:
        """Of each process, by part, kind and pid: the least that was seen in some looks."""
        looks = [self._look(pause) for pause in [0.0] + [_LOOK_SECONDS] * (_LOOKS - 1)]
        return {
            name: Held(*(min(getattr(look[name], what) for look in looks) for what in Held.__slots__))
            for name in looks[-1]
            if all(name in look for look in looks)
        }

    def _look(self, pause: float) -> dict[str, Held]:
        time.sleep(pause)
        return {
            f"{name} {_kind(pid)} {pid}": _held(pid)
            for name, daemon in self._parts.running.items()
            for pid in descendants(daemon.pid)
        }


def _kind(pid: int) -> str:
    command = Path(f"/proc/{pid}/cmdline").read_bytes()
    if command.split(b"\0")[0].endswith(b"java"):
        return "daemon"
    return "child" if b"consumers.main" in command else "process"


def _held(pid: int) -> Held:
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return Held(int(status["VmRSS"].split()[0]) // 1024, files, int(status["Threads"]))


def tell(start: Mapping[str, Held], end: Mapping[str, Held], seconds: float) -> None:
    """The table, for whoever runs with -s, and the same as JSON."""
    lines = [f"{CHANGES:,} changes in {seconds:.0f} s; after a quarter -> at the end"]
    for name in sorted(start.keys() | end.keys()):
        before, after = start.get(name), end.get(name)
        lines.append(f"{name}: {before} -> {after}")
    sys.stderr.write("\n" + "\n".join(lines) + "\n")
    REPORT.parent.mkdir(exist_ok=True)
    held = {when: {name: asdict(one) for name, one in of.items()} for when, of in (("start", start), ("end", end))}
    REPORT.write_text(json.dumps({"changes": CHANGES, "seconds": round(seconds), **held}, indent=1))
