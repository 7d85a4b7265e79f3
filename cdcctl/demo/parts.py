"""The processes that the demo runs beside itself: a producer and the consumers, each a `cdcctl` of its own."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cdcctl.sandbox.processes import Daemon, tail_of
from cdckit.errors import CdcError
from cdckit.runtime.child_process import module_command


@dataclass(slots=True)
class Parts:
    """Background `cdcctl` processes with a log file each; `program` is the module that they run."""

    logs: Path
    environ: Mapping[str, str]
    program: str = "cdcctl.main"
    running: dict[str, Daemon] = field(default_factory=dict)

    def start(self, name: str, arguments: Sequence[str], folder: Path | None = None) -> None:
        """Start ``cdcctl ARGUMENTS`` as `name`, in `folder` (else the working folder)."""
        self.logs.mkdir(parents=True, exist_ok=True)
        command = module_command(self.program, *arguments)
        self.running[name] = Daemon.spawn(
            command, self.logs / f"{name}.log", {**os.environ, **self.environ}, folder or Path.cwd()
        )

    def check(self) -> None:
        """Raises CdcError when one of them has ended, with the last lines of its log."""
        for name, daemon in self.running.items():
            daemon.reap()
            if not daemon.alive:
                log = self.logs / f"{name}.log"
                raise CdcError(f"the {name} ended before its time{tail_of(log, 3)}", f"see {log}")

    def stop(self) -> None:
        """End all of them gracefully, at the same time."""
        for daemon in self.running.values():
            daemon.terminate()
        for daemon in self.running.values():
            daemon.stop(25)
