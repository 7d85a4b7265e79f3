"""``--in-place``: rewinds a consumer's own checkpoints, and says what comes again."""

from __future__ import annotations

from pathlib import Path

from cdcctl import output
from cdcctl.options import Format
from cdcctl.replay.in_place import Consumer
from cdckit.errors import UsageError
from consumers.stream.probe import Probe
from consumers.stream.start import StartPosition


def refuse_filters(until: str | None, table: list[str] | None, where: str | None, into: Path | None) -> None:
    """A rewind brings everything again. Raises UsageError."""
    for flag, value in (("--to", until), ("--table", table), ("--where", where), ("--into", into)):
        if value:
            raise UsageError(
                f"--in-place rewinds the consumer itself, and everything comes again: {flag} has no place there",
                "leave one of them out",
            )


def rewind(consumer: Consumer, probe: Probe, begin: StartPosition, output_format: Format, *, dry_run: bool) -> None:
    """Rewind, or say what would be rewound. Raises ConsumerError, StreamError."""
    if dry_run:
        found, backup = consumer.planned(probe, begin), None
    else:
        found, backup = consumer.rewind(probe, begin)
    if output_format is Format.JSON:
        output.print_json(
            {"rewound": found.checkpoints, "removed": found.removed, "backup": backup, "dry_run": dry_run}
        )
    else:
        rows = [*found.checkpoints.items(), *((shard, "made anew when its parents end") for shard in found.removed)]
        output.print_table(["shard", "resumes after"], rows)
    name = consumer.name
    if not found.checkpoints:
        output.note(f"nothing is moved: {name} has not come further than that")
    elif dry_run:
        output.note("nothing was written: this is what it would be")
    else:
        output.note(
            f"rewound; [bold]cdcctl consumer run {name}[/] reads from there: all changes since then come to it again. "
            "What the satellite has is superseded; a sink that acts (mails, webhooks) acts again."
        )
        output.note(f"take it back: [bold]cdcctl replay undo {name}[/]")
