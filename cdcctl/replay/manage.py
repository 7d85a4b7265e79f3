"""``cdcctl replay swap``, ``undo`` and ``ls``: list replays, make one live, and undo that."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from msgspec.structs import asdict

from cdcctl import output
from cdcctl.options import Format, Output, current_settings
from cdcctl.replay.in_place import ReplayTarget
from cdckit.errors import UsageError
from consumers.replay.shadow import JOURNAL_FILE, Journal, read_journal

Name = Annotated[str, typer.Argument(help="search, parquet, audit, replica, or an installed sink.")]


def swap(
    context: typer.Context,
    consumer: Name,
    folder: Annotated[Path, typer.Argument(help="The folder of a replay from earliest to now.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
) -> None:
    """Make a replay's satellite the live one; the consumer then continues where the replay ended.

    The consumer must be stopped. The old satellite moves into the replay's folder; `cdcctl replay undo` reverts both.

    Example: [bold]cdcctl replay swap search .cdc/replays/search-20261124T100000[/]
    """
    settings, journal = current_settings(context), read_journal(folder)
    if journal.consumer != consumer:
        raise UsageError(
            f"{folder} is a replay of {journal.consumer}", f"cdcctl replay swap {journal.consumer} {folder}"
        )
    question = f"Make {folder} the satellite of {consumer}? It holds only rows that changed since {journal.since}."
    if not yes and not output.confirm(question):
        raise typer.Exit(1)
    backup = ReplayTarget(settings, consumer).swap(folder, journal)
    output.note(f"swapped; [bold]cdcctl consumer run {consumer}[/] continues where the replay ended")
    output.note(f"verify: [bold]cdcctl verify {consumer}[/]; undo: [bold]cdcctl replay undo {consumer}[/]")
    output.print_plain(str(backup))


def undo(context: typer.Context, consumer: Name) -> None:
    """Undo a consumer's last --in-place or swap: restore its leases and folders. The consumer must be stopped.

    Example: [bold]cdcctl replay undo search[/]
    """
    path = ReplayTarget(current_settings(context), consumer).undo()
    output.note(f"undone: the leases of {consumer} are restored")
    output.print_plain(str(path))


def list_replays(context: typer.Context, output_format: Output = Format.TABLE) -> None:
    """List the replays below the data folder, with their range, progress and state.

    Example: [bold]cdcctl replay ls -o json[/]
    """
    folder = current_settings(context).folder / "replays"
    found = [(path.parent, read_journal(path.parent)) for path in sorted(folder.glob(f"*/{JOURNAL_FILE}"))]
    if output_format is Format.JSON:
        output.print_json([{"folder": str(path), **asdict(journal)} for path, journal in found])
    elif found:
        output.print_table(
            ["folder", "from", "to", "read", "applied", "state"],
            [
                (path, journal.since, journal.until or "now", journal.read, journal.applied, _state(journal))
                for path, journal in found
            ],
        )
    else:
        output.note(f"no replays in {output.escape(str(folder))}")


def _state(journal: Journal) -> str:
    return "done" if journal.complete else "interrupted"
