"""``python -m tests.nemesis.part ARGUMENTS``: ``cdcctl ARGUMENTS`` as it is shipped, but for two things.

It polls Kinesis once a second, as on AWS, and not five times: four satellites would wear the local Kinesis out. And it
may have a bug (CDC_TEST_PLANT, see `planted`): then the producer that it becomes and its daemon's children have it too.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module

from cdckit.runtime.settings import Settings

_BECOME = ("producer.cli", "consumers.main")
_POLL = {"idleTimeBetweenReadsInMillis": "1000"}


def run() -> None:
    """Be `cdcctl`; or, with a bug, the module that is the first argument."""
    bug = os.environ.get("CDC_TEST_PLANT", "")
    if sys.argv[1:2] and sys.argv[1] in _BECOME:
        from tests.nemesis.planted import plant

        plant(bug, setattr)
        sys.exit(import_module(sys.argv.pop(1)).main())
    _polls_slowly(planted=bool(bug))
    if bug:
        _becomes_planted()
    import_module("cdcctl.main").main()


def _polls_slowly(*, planted: bool) -> None:
    from consumers.kcl import properties

    def composed(
        name: str, settings: Settings, executable: str, worker: int, extra: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        child = executable.replace("-m consumers.main", f"-m {__spec__.name} consumers.main")
        return {**compose(name, settings, child if planted else executable, worker, extra), **_POLL}

    compose = properties.compose
    properties.compose = composed


def _becomes_planted() -> None:
    """``cdcctl producer run`` becomes the producer by exec: this module's, with the bug."""

    def execve(path: str, command: Sequence[str], environ: Mapping[str, str]) -> None:
        exec_(path, [*command[:3], __spec__.name, *command[3:]], environ)

    exec_ = os.execve
    os.execve = execve  # type: ignore[assignment]


if __name__ == "__main__":
    run()
