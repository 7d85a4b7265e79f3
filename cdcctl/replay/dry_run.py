"""What a replay would read, from samples: ``--dry-run``."""

from __future__ import annotations

from datetime import UTC, datetime

from cdcctl import change_lines, output
from cdcctl.options import Format
from cdcctl.replay.request import end_of
from consumers.filters.selection import Selection
from consumers.replay.estimate import ShardEstimate, estimate, seconds_to_read
from consumers.stream.points import SLACK
from consumers.stream.probe import Probe
from consumers.stream.start import StartPosition


def foresee(probe: Probe, begin: StartPosition, chosen: Selection, output_format: Format) -> None:
    """Print each shard's share and the time at the read limit. Raises StreamError."""
    now, shards = datetime.now(UTC), probe.shards()
    until = end_of(chosen)
    end = now if until is None else min(now, until + SLACK)
    parts = estimate(probe, [shard["ShardId"] for shard in shards], begin, end)
    seconds = seconds_to_read(parts, shards)
    if output_format is Format.JSON:
        shown = [
            {"shard": one.shard, "first": one.first, "records": one.records, "bytes": one.bytes, "exact": one.exact}
            for one in parts
        ]
        output.print_json({"shards": shown, "seconds_at_read_limit": round(seconds, 1)})
        return
    output.print_table(
        ["shard", "from sequence number", "records", "bytes"],
        [(one.shard, one.first, _about(one, one.records), _about(one, one.bytes)) for one in parts],
    )
    output.print_text(f"{change_lines.span(seconds)} at the read limit of 2 MiB/s a shard, which live consumers share")
    output.note("nothing was read or written but samples; filters are applied to what is read")


def _about(part: ShardEstimate, number: int) -> str:
    return f"{'' if part.exact else '~'}{number:,}"
