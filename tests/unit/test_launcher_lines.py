"""Which lines of the daemon's log a launcher emits: each child's line once, errors with their causes."""

import re

import pytest

from cdckit.runtime.settings import Settings
from consumers.kcl.launcher import Launch, Launcher

NOISE = """\
10:00:00 ERROR kcl: DrainChildSTDERRTask: Received error line from subprocess [10:00 ERROR audit: refused] for shard s
10:00 ERROR audit: refused
10:00:00 ERROR kcl: MultiLangProtocol: Failed to get status message for initialize
java.util.concurrent.ExecutionException: java.lang.RuntimeException: Reached end of STDIN
        at software.amazon.kinesis.multilang.MultiLangProtocol.run(MultiLangProtocol.java:1)
10:00:01 WARN  kcl: LeaseAssignmentManager: Not able to assign
10:00:02 ERROR kcl: Scheduler: Worker.run caught exception
software.amazon.awssdk.services.kinesis.model.ResourceNotFoundException: Stream cdc not found
        at software.amazon.kinesis.Somewhere.run(Somewhere.java:1)
Caused by: java.io.IOException: closed
Error: Could not find or load main class X
""".splitlines()


@pytest.mark.parametrize("verbose", [False, True])
def test_lines(verbose: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    emitted: list[str] = []
    made = Launcher.__new__(Launcher)
    made._launch = Launch("audit", Settings(), verbose=verbose)
    made._emit, made._passing_error = emitted.append, False
    for line in NOISE:
        made._forward(line)
    if verbose:
        assert emitted == NOISE
        return
    assert emitted == [
        "10:00 ERROR audit: refused",
        "10:00:02 ERROR kcl: Scheduler: Worker.run caught exception",
        "software.amazon.awssdk.services.kinesis.model.ResourceNotFoundException: Stream cdc not found",
        "Caused by: java.io.IOException: closed",
        "Error: Could not find or load main class X",
    ]
    assert not any(re.match(r"\s+at ", line) for line in emitted)


@pytest.mark.parametrize(
    ("launch", "owner"),
    [
        (Launch("audit", Settings()), True),
        (Launch("audit", Settings(), daemons=2), False),
        (Launch("audit", Settings(), max_shards=1), False),
    ],
)
def test_only_a_daemon_that_takes_all_shards_owns_the_seeded_leases(launch: Launch, owner: bool) -> None:
    launcher = Launcher.__new__(Launcher)
    launcher._launch, launcher._worker = launch, 0
    assert launcher._first_owner().endswith("-audit-0") is owner
