"""``python -m tests.nemesis.part ARGUMENTS``: ``cdcctl ARGUMENTS`` as it is shipped, but for two things.

It polls Kinesis once a second, as on AWS, and not five times: four satellites would wear the local Kinesis out. And it
may have a bug (CDC_TEST_PLANT, see `planted`): then the daemon's children have it too.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from cdcctl.main import main
from cdckit.settings import Settings
from consumers import main as child
from consumers import properties
from tests.nemesis.planted import plant

_CHILD = "child"
_POLL = {"idleTimeBetweenReadsInMillis": "1000"}


def run() -> None:
    """Be `cdcctl`, or with the argument ``child`` what the MultiLangDaemon starts for a shard."""
    plant(os.environ.get("CDC_TEST_PLANT", ""), setattr)
    if sys.argv[1:2] == [_CHILD]:
        del sys.argv[1]
        child.main()
    else:
        properties.compose = _composed
        main()


def _composed(
    name: str, settings: Settings, executable: str, worker: int, extra: Mapping[str, str] | None = None
) -> dict[str, str]:
    executable = executable.replace("-m consumers.main", f"-m {__spec__.name} {_CHILD}")
    return {**_compose(name, settings, executable, worker, extra), **_POLL}


_compose = properties.compose

if __name__ == "__main__":
    run()
