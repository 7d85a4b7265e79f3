"""Starts the worker processes, receives their reports and stops them; no worker outlives the coordinator for long.

Processes, not threads: psycopg2 releases the GIL for each line of a COPY, so threads that read, encode and send block
each other; two threads were no faster than one.
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
from producer.snapshot.protocol import Job, Report, WorkerEnded, WorkerFailed

_GRACE_SECONDS = 20.0
_MALLOC = {"MALLOC_TRIM_THRESHOLD_": str(256 << 20), "MALLOC_MMAP_THRESHOLD_": str(32 << 20)}
"""Otherwise glibc returns each request's memory to the system and faults it in again: a fifth of the CPU."""
_report = msgspec.json.Decoder(Report)


class WorkerPool:
    """One process per job. Leave the context only when none is `busy`; on an error, running workers are killed."""

    def __init__(self, settings: Settings, jobs: Sequence[Job]) -> None:
        """Start the workers."""
        environ = {**_MALLOC, **os.environ, **environ_of(settings), "CDC_CONFIG": os.devnull}
        self._reports: Queue[tuple[int, Report]] = Queue()
        self._busy, self._deadline, self._killed = len(jobs), math.inf, False
        self._children = [_start_worker(environ) for _ in jobs]
        self._threads = [
            threading.Thread(target=self._read_reports, args=(worker, job), name=f"snapshot-{worker}")
            for worker, job in enumerate(jobs)
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
        """True while any worker runs."""
        return self._busy > 0

    def reports(self, seconds: float) -> Iterator[tuple[int, Report]]:
        """Return reports with their worker's number; waits at most `seconds` for the first."""
        found: list[tuple[int, Report]] = []
        with suppress(Empty):
            while True:
                found.append(self._reports.get(timeout=0 if found else seconds))
        self._busy -= sum(isinstance(report, WorkerEnded) for _, report in found)
        if time.monotonic() > self._deadline:
            self._kill()
        yield from found

    def stop(self) -> None:
        """Tell all workers to stop reading; for a limited time they still publish what they have read."""
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

    def _read_reports(self, worker: int, job: Job) -> None:
        child = self._children[worker]
        assert child.stdin is not None
        assert child.stdout is not None
        with suppress(OSError, ValueError):  # it died, which its exit status reports, or was stopped already
            child.stdin.write(msgspec.json.encode(job) + b"\n")
            child.stdin.flush()
        try:
            for line in child.stdout:
                self._reports.put((worker, _report.decode(line)))
        except msgspec.DecodeError as error:
            self._reports.put(
                (worker, WorkerFailed("CdcError", f"a worker process sent an unreadable report: {error}"))
            )
            child.kill()
        child.stdout.close()
        with suppress(OSError):
            child.stdin.close()
        if (status := child.wait()) != 0 and not self._killed:
            self._reports.put((worker, _died(status)))
        self._reports.put((worker, WorkerEnded()))


def _start_worker(environ: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        module_command("producer.snapshot.worker"), env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def _died(status: int) -> WorkerFailed:
    reason = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
    return WorkerFailed("SourceError", f"a worker process {reason}", "was there enough memory? see dmesg")
