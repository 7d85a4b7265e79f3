"""Runs the demo's producer and consumers as child processes, each a `cdcctl` command."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cdcctl.sandbox.processes import Daemon, tail_of
from cdckit.errors import CdcError
from cdckit.runtime.child_process import module_command


@dataclass(slots=True)
class ChildProcesses:
    """Background `cdcctl` processes with one log file each; `program` is the module that they run."""

    logs: Path
    environ: Mapping[str, str]
    program: str = "cdcctl.main"
    running: dict[str, Daemon] = field(default_factory=dict)

    def start(self, name: str, arguments: Sequence[str], folder: Path | None = None) -> None:
        """Start ``cdcctl ARGUMENTS`` as `name`, in `folder` or the working folder."""
        self.logs.mkdir(parents=True, exist_ok=True)
        command = module_command(self.program, *arguments)
        self.running[name] = Daemon.spawn(
            command, self.logs / f"{name}.log", {**os.environ, **self.environ}, folder or Path.cwd()
        )

    def check(self) -> None:
        """Raise CdcError with the last lines of the log when one of the processes has exited."""
        for name, daemon in self.running.items():
            daemon.reap()
            if not daemon.alive:
                log = self.logs / f"{name}.log"
                raise CdcError(f"the {name} exited unexpectedly{tail_of(log, 3)}", f"see {log}")

    def stop(self) -> None:
        """Stop all processes gracefully, in parallel."""
        for daemon in self.running.values():
            daemon.terminate()
        for daemon in self.running.values():
            daemon.stop(25)
