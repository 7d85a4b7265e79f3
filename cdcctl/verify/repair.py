"""Mends what a verification found: publishes the rows of the differing keys anew, and verifies their tables again.

All satellites on the stream see those rows; for those that had them already they change nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cdcctl.verify.compare import Verdict
from cdcctl.verify.run import Verification
from cdckit.change import Table
from producer.snapshot.republish import RepublishResult, republish

_ROUNDS = 20  # a round mends what one verification names of a table, a thousand keys or more


def repaired(
    check: Verification, verdicts: Sequence[Verdict], tell: Callable[[Table, str], None]
) -> tuple[list[Verdict], RepublishResult]:
    """The verdicts afterwards, and what was published. Ends when all is equal, or when a key differs again.

    Raises what `Verification.run` and `republish` raise. Run again after an error: what was published stays.
    """
    latest, done = {verdict.table: verdict for verdict in verdicts}, RepublishResult()
    mended = set[tuple[Table, str]]()
    for _ in range(_ROUNDS):
        differing = {(item.table, item.key) for verdict in latest.values() for item in verdict.differences}
        if not differing or differing & mended:
            break
        mended |= differing
        wanted = [verdict.table for verdict in latest.values() if not verdict.equal]
        for table in wanted:
            keys = sorted(key for one, key in differing if one == table)
            tell(table, f"publishing {len(keys)} rows anew")
            some = republish(check.settings, table, keys)
            done = RepublishResult(done.rows + some.rows, done.deletions + some.deletions)
        latest |= {verdict.table: verdict for verdict in check.run(wanted, tell)}
    return list(latest.values()), done
