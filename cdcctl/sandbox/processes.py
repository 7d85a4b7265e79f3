"""Starts, identifies and stops the background processes of the sandbox; never signals a process of others."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cdckit.errors import CdcError


def free_port() -> int:
    """A TCP port on 127.0.0.1 that is currently unused."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listening(port: int) -> bool:
    """Whether something accepts connections on 127.0.0.1:port."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_until(ready: Callable[[], bool], seconds: float, what: str, log: Path | None = None) -> None:
    """Poll `ready`. Raises CdcError with `what` and the last lines of `log` when it stays false for `seconds`."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise CdcError(f"{what} did not start within {seconds:.0f} s{tail_of(log)}", f"see {log}" if log else "")
        time.sleep(0.05)


def tail_of(log: Path | None, lines: int = 5) -> str:
    """The last lines of a log, for an error message."""
    if log is None or not log.exists():
        return ""
    return ": " + " | ".join(log.read_text(errors="replace").splitlines()[-lines:])


@dataclass(frozen=True, slots=True)
class Daemon:
    """A background process, identified by process id and start time, because process ids are reused."""

    pid: int
    started: str

    @classmethod
    def spawn(cls, command: Sequence[str], log: Path, environ: Mapping[str, str], folder: Path) -> Daemon:
        """Start `command` in its own session; its output goes to `log`."""
        with log.open("ab") as sink:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                cwd=folder,
                env=environ,
                start_new_session=True,
            )
        child.returncode = 0  # suppresses the "still running" warning: the child may outlive this process
        return cls(child.pid, start_time(child.pid))

    @property
    def alive(self) -> bool:
        """Whether the process is running."""
        return bool(self.started) and start_time(self.pid) == self.started

    def terminate(self) -> None:
        """Send SIGTERM; does not wait."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)

    def reap(self) -> None:
        """Reap the process when it is a child of this one and has exited."""
        _reap(self.pid)

    def stop(self, seconds: float = 10) -> None:
        """Send SIGTERM, and after `seconds` SIGKILL to the process group."""
        self.terminate()
        for timeout in (seconds, 5.0):
            deadline = time.monotonic() + timeout
            while self.alive and time.monotonic() < deadline:
                _reap(self.pid)
                time.sleep(0.05)
            if not self.alive:
                return
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)


def start_time(pid: int) -> str:
    """Start time of the process as the kernel reports it; empty when it has exited or is a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if stat[0] == "Z" else stat[19]
    except FileNotFoundError:
        pass
    except OSError:
        return ""
    if Path("/proc/self/stat").exists():
        return ""
    shown = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return shown.stdout.strip()


def _reap(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
