"""``--in-place``: rewinds a consumer's own checkpoints and reports from where it reads again."""

from __future__ import annotations

from pathlib import Path

from cdcctl import output
from cdcctl.options import Format
from cdcctl.replay.in_place import ReplayTarget
from cdckit.errors import UsageError
from consumers.stream.probe import Probe
from consumers.stream.start import StartPosition


def refuse_filters(until: str | None, table: list[str] | None, where: str | None, into: Path | None) -> None:
    """Raise UsageError when a filter is given: a rewind delivers every change again."""
    for flag, value in (("--to", until), ("--table", table), ("--where", where), ("--into", into)):
        if value:
            raise UsageError(
                f"--in-place rewinds the consumer for all changes and cannot be combined with {flag}",
                f"remove --in-place or {flag}",
            )


def rewind(consumer: ReplayTarget, probe: Probe, begin: StartPosition, output_format: Format, *, dry_run: bool) -> None:
    """Rewind the consumer, or with `dry_run` print what would be written. Raises ConsumerError, StreamError."""
    if dry_run:
        found, backup = consumer.planned(probe, begin), None
    else:
        found, backup = consumer.rewind(probe, begin)
    if output_format is Format.JSON:
        output.print_json(
            {"rewound": found.checkpoints, "removed": found.removed, "backup": backup, "dry_run": dry_run}
        )
    else:
        rows = [*found.checkpoints.items(), *((shard, "recreated when its parents end") for shard in found.removed)]
        output.print_table(["shard", "resumes after"], rows)
    name = consumer.name
    if not found.checkpoints:
        output.note(f"no checkpoint changes: {name} has not read beyond that point")
    elif dry_run:
        output.note("dry run: nothing was written")
    else:
        output.note(
            f"rewound; [bold]cdcctl consumer run {name}[/] reads all changes since then again. A satellite ignores the "
            "changes that it already has; a sink with side effects (mails, webhooks) repeats them."
        )
        output.note(f"undo: [bold]cdcctl replay undo {name}[/]")
