"""Runs the nemesis (``python -m tests.nemesis --minutes 10 --seed 4711``); exits with 1 if a law is violated.

It prints a table and writes ``build/chaos.json``.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from pathlib import Path

from cdckit.errors import CdcError
from tests.nemesis import report
from tests.nemesis.run import Plan, run
from tests.nemesis.timeline import Timeline
from tests.support.seed import seed


def main(arguments: list[str] | None = None) -> int:
    """Run once and return the exit status."""
    options = _parser().parse_args(arguments)
    chosen = options.seed if options.seed is not None else seed()
    folder = Path(tempfile.gettempdir()) / f"cdc-nemesis-{chosen}"
    plan = Plan(chosen, options.minutes * 60, folder, options.search == "opensearch", options.plant, options.rate)
    for number in (signal.SIGINT, signal.SIGTERM):  # a background process ignores SIGINT: set both, to end the parts
        signal.signal(number, signal.default_int_handler)
    sys.stderr.write(
        f"to repeat: python -m tests.nemesis --minutes {options.minutes:g} --search {options.search} --seed {chosen}\n"
    )
    timeline = Timeline(_print)
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


def _print(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.nemesis", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="duration of the workload and the faults")
    parser.add_argument("--seed", type=int, help="seed of the workload and the faults (default: random)")
    parser.add_argument("--rate", type=float, default=12.0, help="transactions per second")
    parser.add_argument("--search", choices=["sqlite", "opensearch"], default="opensearch", help="the search engine")
    parser.add_argument("--plant", default="", help="plant this bug into the parts: the checker must find it")
    return parser


if __name__ == "__main__":
    sys.exit(main())
