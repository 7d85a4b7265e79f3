"""The processes that read for a fill: starts them, hears what they report, stops them; none outlives the fill for long.

Processes, not threads: psycopg2 gives the GIL up for each line of a COPY, so that threads which read, build records and
send them hold each other up; two got no more done than one.
"""

from __future__ import annotations

import math
import os
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from queue import Empty, Queue
from typing import Self

import msgspec

from cdckit.runtime.child_process import module_command
from cdckit.runtime.settings import Settings, environ_of
from producer.snapshot.protocol import Ended, Failed, Job, Report

_GRACE_SECONDS = 20.0
_MALLOC = {"MALLOC_TRIM_THRESHOLD_": str(256 << 20), "MALLOC_MMAP_THRESHOLD_": str(32 << 20)}
"""Else glibc gives each request's text back to the system, to take it anew a page at a time: a fifth of the CPU."""
_report = msgspec.json.Decoder(Report)


class Crew:
    """One process a job. Leave the context only when none is `busy`; by an error, what still runs is killed."""

    def __init__(self, settings: Settings, jobs: Sequence[Job]) -> None:
        """Start them."""
        environ = {**_MALLOC, **os.environ, **environ_of(settings), "CDC_CONFIG": os.devnull}
        self._reports: Queue[tuple[int, Report]] = Queue()
        self._busy, self._deadline, self._killed = len(jobs), math.inf, False
        self._children = [_started(environ) for _ in jobs]
        self._threads = [
            threading.Thread(target=self._hear, args=(at, job), name=f"fill-{at}") for at, job in enumerate(jobs)
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._kill()
        for thread in self._threads:
            thread.join()

    @property
    def busy(self) -> bool:
        """Whether any of them is still there."""
        return self._busy > 0

    def reports(self, seconds: float) -> Iterator[tuple[int, Report]]:
        """What they reported, and which of them; waits so long for the first."""
        found: list[tuple[int, Report]] = []
        with suppress(Empty):
            while True:
                found.append(self._reports.get(timeout=0 if found else seconds))
        self._busy -= sum(isinstance(report, Ended) for _, report in found)
        if time.monotonic() > self._deadline:
            self._kill()
        yield from found

    def stop(self) -> None:
        """Tell all to stop reading; what they have read they still try to put on the stream, for a while."""
        self._deadline = min(self._deadline, time.monotonic() + _GRACE_SECONDS)
        for child in self._children:
            assert child.stdin is not None
            with suppress(OSError):
                child.stdin.close()

    def _kill(self) -> None:
        self._killed = True
        for child in self._children:
            if child.poll() is None:
                child.kill()

    def _hear(self, at: int, job: Job) -> None:
        child = self._children[at]
        assert child.stdin is not None
        assert child.stdout is not None
        with suppress(OSError, ValueError):  # it is dead, which its status tells, or was told to stop already
            child.stdin.write(msgspec.json.encode(job) + b"\n")
            child.stdin.flush()
        try:
            for line in child.stdout:
                self._reports.put((at, _report.decode(line)))
        except msgspec.DecodeError as error:
            self._reports.put((at, Failed("CdcError", f"a process that reads said what is no report: {error}")))
            child.kill()
        child.stdout.close()
        with suppress(OSError):
            child.stdin.close()
        if (status := child.wait()) != 0 and not self._killed:
            self._reports.put((at, _gone(status)))
        self._reports.put((at, Ended()))


def _started(environ: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        module_command("producer.snapshot.worker"), env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def _gone(status: int) -> Failed:
    how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
    return Failed("SourceError", f"a process that reads {how}", "was there memory enough? (dmesg tells)")
