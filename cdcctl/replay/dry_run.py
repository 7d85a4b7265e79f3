"""``--dry-run``: estimates from samples what a replay would read."""

from __future__ import annotations

from datetime import UTC, datetime

from cdcctl import change_lines, output
from cdcctl.options import Format
from cdcctl.replay.request import end_time
from consumers.filters.selection import Selection
from consumers.replay.estimate import ShardEstimate, estimate, seconds_to_read
from consumers.stream.points import SLACK
from consumers.stream.probe import Probe
from consumers.stream.start import StartPosition


def print_estimate(probe: Probe, begin: StartPosition, selected: Selection, output_format: Format) -> None:
    """Print the estimate per shard, and the reading time at the read limit. Raises StreamError."""
    now, shards = datetime.now(UTC), probe.shards()
    until = end_time(selected)
    end = now if until is None else min(now, until + SLACK)
    parts = estimate(probe, [shard["ShardId"] for shard in shards], begin, end)
    seconds = seconds_to_read(parts, shards)
    if output_format is Format.JSON:
        shown = [
            {
                "shard": part.shard,
                "first": part.first,
                "records": part.records,
                "bytes": part.bytes,
                "exact": part.exact,
            }
            for part in parts
        ]
        output.print_json({"shards": shown, "seconds_at_read_limit": round(seconds, 1)})
        return
    output.print_table(
        ["shard", "from sequence number", "records", "bytes"],
        [(part.shard, part.first, _approximate(part, part.records), _approximate(part, part.bytes)) for part in parts],
    )
    duration = change_lines.format_duration(seconds)
    output.print_text(f"{duration} at the read limit of 2 MiB/s per shard, which is shared with live consumers")
    output.note("only samples were read and nothing was written; filters do not reduce what is read")


def _approximate(part: ShardEstimate, number: int) -> str:
    return f"{'' if part.exact else '~'}{number:,}"
