"""Repairs the differences that a verification found: publishes the rows of these keys and verifies the tables again.

All satellites on the stream receive these rows; a satellite that already has them does not change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cdcctl.verify.compare import TableResult
from cdcctl.verify.run import Verification
from cdckit.change import Table
from producer.snapshot.republish import RepublishResult, republish

_MAX_ROUNDS = 20  # one round repairs the keys found by one verification, a thousand or more per table


def repair_differences(
    verification: Verification, results: Sequence[TableResult], report: Callable[[Table, str], None]
) -> tuple[list[TableResult], RepublishResult]:
    """Repair; returns the new results and what was published. Ends when all is equal, or a key differs again.

    Raises what `Verification.run` and `republish` raise. It can be run again after an error.
    """
    latest, published = {result.table: result for result in results}, RepublishResult()
    republished = set[tuple[Table, str]]()
    for _ in range(_MAX_ROUNDS):
        differing = {(item.table, item.key) for result in latest.values() for item in result.differences}
        if not differing or differing & republished:
            break
        republished |= differing
        tables = [result.table for result in latest.values() if not result.equal]
        for table in tables:
            keys = sorted(key for differing_table, key in differing if differing_table == table)
            report(table, f"publishing {len(keys)} rows again")
            repaired = republish(verification.settings, table, keys)
            published = RepublishResult(published.rows + repaired.rows, published.deletions + repaired.deletions)
        latest |= {result.table: result for result in verification.run(tables, report)}
    return list(latest.values()), published
