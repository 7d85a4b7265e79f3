"""Runs one consumer's MultiLangDaemon: seeds its leases, starts it, restarts it with backoff, stops it gracefully.

A consumer that stopped permanently (too many dead letters, a store that another host claimed, a wrong setting) is not
started again; its shards' reports give the reason.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from cdckit.errors import ConsumerError
from cdckit.runtime.child_process import SAFE_PATH
from cdckit.runtime.settings import Settings
from consumers.kcl import class_archive, java, properties
from consumers.kcl.leases import LeaseTable
from consumers.stream.shards import list_shards
from consumers.stream.start import EARLIEST, StartPosition
from consumers.worker.status import read_reports

_CHILD_LINE = re.compile(r".*Received error line from subprocess \[(.*)\] for shard \S+$")
_LOG_LINE = re.compile(r"\d\d:\d\d:\d\d \w+ +kcl: ")
_DAEMON_ERROR = re.compile(
    r"\S+ ERROR +kcl: (?!MultiLang)|Error|Exception in"
)  # MultiLang…: the child logged it already
_CAUSE = re.compile(r"(Caused by: )?([a-z]\w*\.)+\w*(Exception|Error)\b")
_SIGNAL_CHILDREN_SECONDS, _KILL_SECONDS = 1.0, 20.0  # after `stop`
_MAX_BACKOFF = 30.0
_STEADY_SECONDS = 20.0  # a daemon that ran this long has started well: the backoff starts again
_ARCHIVE_SECONDS = 20.0  # the archive is made this long after a start, which needs the processors itself
_SET_PARENT_DEATH_SIGNAL = 1

Emit = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Launch:
    """What to run: a consumer by its name, or the user's own `sink` under that name.

    `start` counts only while the application has no leases. One daemon takes at most `max_shards` shards. `daemons` of
    this consumer start together and share the shards.
    """

    name: str
    settings: Settings
    sink: str | None = None
    start: StartPosition = EARLIEST
    fan_out: bool = False
    max_shards: int | None = None
    take_over: bool = False
    environ: Mapping[str, str] = field(default_factory=dict)
    verbose: bool = False
    daemons: int = 1

    @property
    def application(self) -> str:
        """The KCL application's name."""
        return self.settings.application(self.name)

    @property
    def properties(self) -> dict[str, str]:
        """The daemon's properties that follow from these choices."""
        chosen = dict(self.start.properties)
        if self.fan_out:
            chosen["retrievalMode"] = "FANOUT"
        if self.max_shards is not None:
            chosen["maxLeasesForWorker"] = str(self.max_shards)
        return chosen


class Launcher:
    """One daemon. `emit` gets each readable line of its log. Call `run` in one thread, `stop` from any."""

    def __init__(self, launch: Launch, emit: Emit) -> None:
        """Checks Java, the jars and the stream first. Raises ConsumerError and StreamError."""
        self._launch, self._emit = launch, emit
        self._stopping = threading.Event()
        self._child: subprocess.Popen[str] | None = None
        self._passing_error = False  # the last line was an error of the daemon: its causes are passed on too
        self._java = java.find_java(launch.settings.java)
        java.find_jars()
        self._archive = class_archive.find(self._java)
        self._seeds = launch.start.seeds(list_shards(launch.settings.stream))
        self._folder = launch.settings.folder / "run"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._worker, self._lock = claim_worker(self._folder, launch.name)
        self._take_over = launch.take_over  # counts at the first start only

    def run(self) -> int:
        """Runs until `stop`; returns 0 after a graceful end, ConsumerError's status after a permanent stop."""
        with self._making_archive():
            return self._run()

    def _run(self) -> int:
        delay = 1.0
        if self._launch.start != EARLIEST and LeaseTable(self._launch.application).read():
            self._emit("continuing from its checkpoints: --from and --bootstrap apply to a first start only")
        while True:
            started, clock = time.monotonic(), time.time()
            status = self._run_once()
            if self._stopping.is_set():
                return 0 if status in (0, 143, -signal.SIGTERM) else status
            if reason := self._permanent_stop_since(clock):
                self._emit(f"stopped permanently: {reason}")
                return ConsumerError.exit_code
            delay = 1.0 if time.monotonic() - started > _STEADY_SECONDS else delay
            self._archive = None  # a start without it shows whether it was the reason
            self._emit(f"the daemon ended with status {status}; starting it again in {delay:.0f} s")
            if self._stopping.wait(delay):
                return 0
            delay = min(delay * 2, _MAX_BACKOFF)

    def stop(self) -> None:
        """Ends the daemon gracefully: its shards flush, checkpoint and give their leases back.

        The shards' processes get SIGTERM a moment later, so that they also stop inside a long page.
        """
        self._stopping.set()
        child = self._child
        if child is not None and child.poll() is None:
            child.terminate()
            _schedule(_SIGNAL_CHILDREN_SECONDS, lambda: _signal_group(child, signal.SIGTERM))
            _schedule(_KILL_SECONDS, child.kill)

    @property
    def pid(self) -> int | None:
        """The daemon's process id while it runs."""
        return None if self._child is None or self._child.poll() is not None else self._child.pid

    @contextmanager
    def _making_archive(self) -> Iterator[None]:
        """On a local endpoint, makes a missing class-data archive a while after the start; ends with the block."""
        making: list[subprocess.Popen[bytes] | None] = []
        timer = threading.Timer(_ARCHIVE_SECONDS, lambda: making.append(class_archive.start_making(self._java)))
        timer.daemon = True
        if self._archive is None and properties.is_local(os.environ):
            timer.start()
        try:
            yield
        finally:
            timer.cancel()
            for process in filter(None, making):
                _signal_group(process, signal.SIGTERM)
                process.wait()

    def _permanent_stop_since(self, moment: float) -> str:
        reports = read_reports(self._launch.settings.folder, self._launch.name)
        return next((report.stopped for report in reports if report.stopped and report.updated >= moment), "")

    def _run_once(self) -> int:
        launch = self._launch
        leases = LeaseTable(launch.application)
        leases.release_leader(properties.worker_id(launch.name, self._worker))
        if properties.is_local(os.environ):
            leases.seed(self._seeds, launch.start.kind, self._first_owner())
        command = java.daemon_command(self._java, self._write_properties(), class_archive.flags(self._archive))
        environ, self._take_over = self._environ(), False
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            errors="replace", env=environ, start_new_session=True,
            preexec_fn=_end_with_parent,  # noqa: PLW1509 -- one system call, safe between fork and exec
        )  # fmt: skip
        self._child = child
        if self._stopping.is_set():
            child.terminate()
        assert child.stdout is not None
        with child.stdout as lines:
            for line in lines:
                self._forward(line.rstrip())
        return child.wait()

    def _first_owner(self) -> str:
        """The owner of the seeded leases: this worker if it takes all shards; else the KCL's leader assigns them."""
        alone = self._launch.daemons == 1 and self._launch.max_shards is None
        return properties.worker_id(self._launch.name, self._worker) if alone else ""

    def _write_properties(self) -> Path:
        launch = self._launch
        executable = f"{Path(sys.executable).name} {SAFE_PATH} -m consumers.main {launch.name}"
        composed = properties.compose(launch.name, launch.settings, executable, self._worker, launch.properties)
        path = self._folder / f"{launch.name}-{self._worker}.properties"
        path.write_text(properties.render(composed))
        return path

    def _environ(self) -> dict[str, str]:
        settings, here = self._launch.settings, os.environ
        # executableName is split on spaces: PATH finds the interpreter, also in a folder with a space in its name
        environ = {**here, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{here.get('PATH', '')}"}
        environ |= {
            "CDC_DATA": settings.data,
            "CDC_LOG_FORMAT": settings.log_format,
            "CDC_CHECKPOINT_SECONDS": settings.checkpoint_seconds,
            "CDC_DEAD_LETTERS": settings.dead_letters,
            "CDC_MAX_DEAD_SHARE": settings.max_dead_share,
            "CDC_APP_PREFIX": settings.app_prefix,
            "CDC_STREAM": settings.stream,
            "CDC_KCL_LOG_LEVEL": "INFO" if self._launch.verbose else "WARN",
        }
        if properties.is_local(here):
            environ |= {"CBOR_ENABLED": "false", "AWS_EC2_METADATA_DISABLED": "true"}
        if self._launch.sink:
            environ["CDC_SINK"] = self._launch.sink
        if self._take_over:
            environ["CDC_TAKE_OVER"] = "1"
        return environ | dict(self._launch.environ)

    def _forward(self, line: str) -> None:
        if self._launch.verbose:
            self._emit(line)
        elif match := _CHILD_LINE.match(line):
            self._emit(match[1])
        elif _DAEMON_ERROR.match(line):  # a child's line appears twice, the second time unchanged
            self._passing_error = True
            self._emit(line)
        elif _LOG_LINE.match(line):
            self._passing_error = False
        elif self._passing_error and _CAUSE.match(line):
            self._emit(line)


def claim_worker(folder: Path, name: str) -> tuple[int, IO[str]]:
    """The lowest number that no other daemon of this consumer uses on this host; reserved while the file is open."""
    for number in range(64):
        lock = (folder / f"{name}-{number}.lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            continue
        return number, lock
    raise ConsumerError(f"64 daemons of {name!r} run on this host already", "stop some of them")


def _schedule(seconds: float, act: Callable[[], None]) -> None:
    timer = threading.Timer(seconds, act)
    timer.daemon = True
    timer.start()


def _signal_group(daemon: subprocess.Popen[Any], number: int) -> None:
    if daemon.poll() is None:  # while it runs, its process id is its group's
        with suppress(ProcessLookupError):
            os.killpg(daemon.pid, number)


def _end_with_parent() -> None:
    """On Linux, the daemon gets SIGTERM when its launcher is killed, instead of running on unseen."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)
