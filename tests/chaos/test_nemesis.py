"""The whole system for two minutes under the nemesis, with a fresh seed: no law is broken (docs/reliability.md)."""

import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.nemesis import report
from tests.nemesis.run import Plan, run
from tests.nemesis.timeline import Timeline
from tests.support.resharding_aws import ReshardingCloud

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1200)]
SECONDS = 120.0
RATE = 8.0  # transactions a second: another test file runs beside this one


def tell(line: str) -> None:
    """Captured: shown when it fails."""
    sys.stdout.write(f"{line}\n")


def test_two_minutes_under_the_nemesis_break_no_law(
    resharding_aws: ReshardingCloud, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = time.time_ns() % 1_000_000_000
    with capsys.disabled():
        sys.stderr.write(f"\nrepeat it: python -m tests.nemesis --minutes 2 --rate 8 --search sqlite --seed {seed}\n")
    folder = Path(tempfile.gettempdir()) / f"cdc-nemesis-{seed}"  # kept when it fails, with the parts' logs
    outcome = run(Plan(seed, SECONDS, folder, rate=RATE), Timeline(tell), resharding_aws)
    with capsys.disabled():
        sys.stderr.write(report.table(outcome) + "\n")
    report.write(outcome)
    assert not outcome.findings, report.failure(outcome)
    assert outcome.changes > 0
    assert sum(outcome.faults.values()) > 0
