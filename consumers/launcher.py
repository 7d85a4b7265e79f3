"""Runs one consumer's MultiLangDaemon: seeds its leases, starts it, restarts it with backoff, ends it gracefully.

A daemon that ended because its consumer gave up for good (too many dead letters, a store claimed by another host, a
setting that cannot be used) is not started again: its shards' reports say so.
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
from cdckit.settings import Settings
from consumers import class_archive, java, properties
from consumers.begin import EARLIEST, Begin
from consumers.figures import read_reports
from consumers.leases import LeaseTable
from consumers.shards import list_shards

_CHILD_LINE = re.compile(r".*Received error line from subprocess \[(.*)\] for shard \S+$")
_STAMPED = re.compile(r"\d\d:\d\d:\d\d \w+ +kcl: ")
_DAEMON_ERROR = re.compile(r"\S+ ERROR +kcl: (?!MultiLang)|Error|Exception in")  # MultiLang…: the child told already
_CAUSE = re.compile(r"(Caused by: )?([a-z]\w*\.)+\w*(Exception|Error)\b")
_TELL_CHILDREN_AFTER, _KILL_AFTER = 1.0, 20.0
_BACKOFF_MOST = 30.0
_STEADY = 20.0  # seconds after which a daemon counts as having started well
_ARCHIVE_AFTER = 20.0  # seconds: the start at hand needs the processors itself
_SET_PARENT_DEATH_SIGNAL = 1

Emit = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Launch:
    """What to run: a consumer by name, or a sink of one's own under that name.

    `begin` counts only while the application has no leases. `most_shards` bounds what one daemon takes. `daemons` of
    this consumer start together and share the shards.
    """

    name: str
    settings: Settings
    sink: str | None = None
    begin: Begin = EARLIEST
    fan_out: bool = False
    most_shards: int | None = None
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
        """The properties that these choices add."""
        chosen = dict(self.begin.properties)
        if self.fan_out:
            chosen["retrievalMode"] = "FANOUT"
        if self.most_shards is not None:
            chosen["maxLeasesForWorker"] = str(self.most_shards)
        return chosen


class Launcher:
    """One daemon. `emit` gets each readable line of its log; call `run` in one thread, `stop` from any."""

    def __init__(self, launch: Launch, emit: Emit) -> None:
        """Check everything that can be checked first. Raises ConsumerError and StreamError."""
        self._launch, self._emit = launch, emit
        self._stopping = threading.Event()
        self._child: subprocess.Popen[str] | None = None
        self._telling = False  # the last line that was passed on was an error of the daemon: its causes are too
        self._java = java.find_java(launch.settings.java)
        java.jars()
        self._archive = class_archive.find(self._java)
        self._seeds = launch.begin.seeds(list_shards(launch.settings.stream))
        self._folder = launch.settings.folder / "run"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._worker, self._lock = claim_worker(self._folder, launch.name)
        self._take_over = launch.take_over  # at the first start only

    def run(self) -> int:
        """Run until `stop`; 0 after a graceful end, ConsumerError's exit status when the consumer gave up for good."""
        with self._making_archive():
            return self._run()

    def _run(self) -> int:
        delay = 1.0
        if self._launch.begin != EARLIEST and LeaseTable(self._launch.application).read():
            self._emit("it has checkpoints and goes on from there: --from and --bootstrap move a first start only")
        while True:
            started, clock = time.monotonic(), time.time()
            status = self._run_once()
            if self._stopping.is_set():
                return 0 if status in (0, 143, -signal.SIGTERM) else status
            if given_up := self._given_up_since(clock):
                self._emit(f"stopped for good: {given_up}")
                return ConsumerError.exit_code
            delay = 1.0 if time.monotonic() - started > _STEADY else delay
            self._archive = None  # a start without it shows whether it was the reason
            self._emit(f"the daemon ended with status {status}; again in {delay:.0f} s")
            if self._stopping.wait(delay):
                return 0
            delay = min(delay * 2, _BACKOFF_MOST)

    def stop(self) -> None:
        """End the daemon gracefully: its shards flush, checkpoint and give their leases back.

        Children that are in the midst of a long page are told a moment later, to leave it where they are.
        """
        self._stopping.set()
        child = self._child
        if child is not None and child.poll() is None:
            child.terminate()
            _later(_TELL_CHILDREN_AFTER, lambda: _signal_group(child, signal.SIGTERM))
            _later(_KILL_AFTER, child.kill)

    @property
    def pid(self) -> int | None:
        """The daemon's process id while it runs."""
        return None if self._child is None or self._child.poll() is not None else self._child.pid

    @contextmanager
    def _making_archive(self) -> Iterator[None]:
        """On a laptop, make the class-data archive that is missing, a while after the start; ends with the block."""
        making: list[subprocess.Popen[bytes] | None] = []
        timer = threading.Timer(_ARCHIVE_AFTER, lambda: making.append(class_archive.start_making(self._java)))
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

    def _given_up_since(self, moment: float) -> str:
        reports = read_reports(self._launch.settings.folder, self._launch.name)
        return next((one.stopped for one in reports if one.stopped and one.updated >= moment), "")

    def _run_once(self) -> int:
        launch = self._launch
        leases = LeaseTable(launch.application)
        leases.release_leader(properties.worker_id(launch.name, self._worker))
        if properties.is_local(os.environ):
            leases.seed(self._seeds, launch.begin.kind, self._first_owner())
        command = java.command(self._java, self._write_properties(), class_archive.flags(self._archive))
        environ, self._take_over = self._environ(), False
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            errors="replace", env=environ, start_new_session=True,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 -- one system call, safe between fork and exec
        )  # fmt: skip
        self._child = child
        if self._stopping.is_set():
            child.terminate()
        assert child.stdout is not None
        with child.stdout as lines:
            for line in lines:
                self._pass_on(line.rstrip())
        return child.wait()

    def _first_owner(self) -> str:
        """Who owns the seeded leases: this worker when it takes all shards; else the KCL's leader shares them out."""
        alone = self._launch.daemons == 1 and self._launch.most_shards is None
        return properties.worker_id(self._launch.name, self._worker) if alone else ""

    def _write_properties(self) -> Path:
        launch = self._launch
        executable = f"{Path(sys.executable).name} -m consumers.main {launch.name}"
        composed = properties.compose(launch.name, launch.settings, executable, self._worker, launch.properties)
        path = self._folder / f"{launch.name}-{self._worker}.properties"
        path.write_text(properties.render(composed))
        return path

    def _environ(self) -> dict[str, str]:
        settings, here = self._launch.settings, os.environ
        # executableName is split on spaces: the interpreter is found by PATH, whatever its folder is called
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

    def _pass_on(self, line: str) -> None:
        if self._launch.verbose:
            self._emit(line)
        elif match := _CHILD_LINE.match(line):
            self._emit(match[1])
        elif _DAEMON_ERROR.match(line):  # a child's own line comes twice, the other time as it is
            self._telling = True
            self._emit(line)
        elif _STAMPED.match(line):
            self._telling = False
        elif self._telling and _CAUSE.match(line):
            self._emit(line)


def claim_worker(folder: Path, name: str) -> tuple[int, IO[str]]:
    """The lowest number that no other daemon of this consumer holds on this host; held while the file is open."""
    for number in range(64):
        lock = (folder / f"{name}-{number}.lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            continue
        return number, lock
    raise ConsumerError(f"64 daemons of {name!r} run on this host", "stop some of them")


def _later(seconds: float, act: Callable[[], None]) -> None:
    timer = threading.Timer(seconds, act)
    timer.daemon = True
    timer.start()


def _signal_group(daemon: subprocess.Popen[Any], number: int) -> None:
    if daemon.poll() is None:  # its process id is its group's while it lives
        with suppress(ProcessLookupError):
            os.killpg(daemon.pid, number)


def _die_with_parent() -> None:
    """On Linux, a daemon whose launcher was killed ends too (gracefully: SIGTERM), instead of running on unseen."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)
