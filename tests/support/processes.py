"""Processes of a test: whose child is whose, and how to kill them."""

import contextlib
import os
import signal
import subprocess


def descendants(pid: int) -> list[int]:
    """The process and all below it, deepest last."""
    shown = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    children: dict[int, list[int]] = {}
    for line in shown.splitlines():
        child, parent = map(int, line.split())
        children.setdefault(parent, []).append(child)
    found, queue = [], [pid]
    while queue:
        found.append(queue.pop(0))
        queue += children.get(found[-1], [])
    return found


def kill(*pids: int) -> None:
    """SIGKILL; one that is gone already is no error."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
