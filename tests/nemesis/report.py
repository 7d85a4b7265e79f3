"""Formats the result of a run: a table, ``build/chaos.json``, and for a failure its findings and the timeline."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.nemesis.checker import KINDS, count
from tests.nemesis.run import Outcome, Plan
from tests.nemesis.timeline import Timeline

RESULT = Path("build") / "chaos.json"
_MAX_FINDINGS = 40


def as_json(outcome: Outcome) -> dict[str, Any]:
    """The result for scripts."""
    return {
        "seed": outcome.plan.seed,
        "changes": outcome.changes,
        "faults": dict(sorted(outcome.faults.items())),
        **count(outcome.findings),
        "recovery_seconds": dict(outcome.recovery),
    }


def write(outcome: Outcome, path: Path = RESULT) -> None:
    """Write the JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(as_json(outcome), indent=2) + "\n")


def table(outcome: Outcome) -> str:
    """The result as a Markdown table."""
    rows = [*_rows(outcome)]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    lines = [f"| {name:<{widths[0]}} | {value:<{widths[1]}} |" for name, value in rows]
    return "\n".join([lines[0], f"|{'-' * (widths[0] + 2)}|{'-' * (widths[1] + 2)}|", *lines[1:]])


def stuck(plan: Plan, timeline: Timeline, error: Exception) -> str:
    """The seed, and the timeline of a run that could not finish."""
    return "\n".join([_failed(plan), "", *timeline.lines, "", f"  the run did not finish: {error}"])


def failure(outcome: Outcome) -> str:
    """The seed, the timeline and the findings."""
    shown = [f"  {finding.kind} (law {finding.law}): {finding.text}" for finding in outcome.findings[:_MAX_FINDINGS]]
    more = len(outcome.findings) - len(shown)
    return "\n".join([
        _failed(outcome.plan), "",
        *outcome.timeline.lines, "", *shown, *([f"  and {more} more"] if more else []),
    ])  # fmt: skip


def _failed(plan: Plan) -> str:
    return f"FAILED with seed {plan.seed}; the parts' logs are in {plan.folder / 'logs'}"


def _rows(outcome: Outcome) -> Iterator[tuple[str, str]]:
    found = count(outcome.findings)
    recovery = {name: "–" if value is None else f"{value:.1f} s" for name, value in outcome.recovery.items()}
    yield "whole system under the nemesis", f"seed {outcome.plan.seed}, {outcome.plan.seconds / 60:.3g} min"
    yield "changes committed", f"{outcome.changes:,} in {outcome.transactions:,} transactions"
    for kind, number in sorted(outcome.faults.items()):
        yield f"fault: {kind}", str(number)
    yield "faults, in all", str(sum(outcome.faults.values()))
    proxy = Counter(outcome.proxy)
    yield (
        "PutRecords / entries refused / answers lost",
        f"{proxy['PutRecords']:,} / {proxy['rejected']:,} / {proxy['dropped']:,}",
    )
    yield "parts started again", ", ".join(f"{name} {times}" for name, times in sorted(outcome.restarts.items())) or "0"
    yield "changes put more than once (allowed)", str(outcome.repeated)
    for kind in KINDS:
        yield {"duplicated": "duplicated in effect"}.get(kind, kind), str(found[kind])
    yield "recovery p50 / max", f"{recovery['p50']} / {recovery['max']}"
