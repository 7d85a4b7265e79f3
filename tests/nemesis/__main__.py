"""``python -m tests.nemesis --minutes 10 --seed 4711``: a run, its table, ``build/chaos.json``; 1 when a law broke."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from pathlib import Path

from cdckit.errors import CdcError
from tests.nemesis import report
from tests.nemesis.run import Plan, run
from tests.nemesis.timeline import Timeline


def main(arguments: list[str] | None = None) -> int:
    """Run once; the exit status."""
    asked = _parser().parse_args(arguments)
    seed = asked.seed if asked.seed is not None else time.time_ns() % 1_000_000_000
    folder = Path(tempfile.gettempdir()) / f"cdc-nemesis-{seed}"
    plan = Plan(seed, asked.minutes * 60, folder, asked.search == "opensearch", asked.plant, asked.rate)
    for number in (signal.SIGINT, signal.SIGTERM):  # in the background SIGINT would be ignored: what runs is to end
        signal.signal(number, signal.default_int_handler)
    sys.stderr.write(
        f"repeat it: python -m tests.nemesis --minutes {asked.minutes:g} --search {asked.search} --seed {seed}\n"
    )
    timeline = Timeline(_tell)
    try:
        outcome = run(plan, timeline)
    except (CdcError, TimeoutError) as error:
        sys.stdout.write(report.stuck(plan, timeline, error) + "\n")
        return 1
    report.write(outcome)
    sys.stdout.write(report.table(outcome) + "\n")
    if outcome.findings:
        sys.stdout.write("\n" + report.failure(outcome) + "\n")
    return 1 if outcome.findings else 0


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.nemesis", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long the nemesis works")
    parser.add_argument("--seed", type=int, help="of the workload and the faults; default: a fresh one")
    parser.add_argument("--rate", type=float, default=12.0, help="transactions a second")
    parser.add_argument("--search", choices=["sqlite", "opensearch"], default="opensearch", help="the search engine")
    parser.add_argument("--plant", default="", help="a bug that the parts are to have: the checker must find it")
    return parser


if __name__ == "__main__":
    sys.exit(main())
