"""``cdcctl replay swap``, ``undo`` and ``ls``: the replays that are there, and what is made of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from msgspec.structs import asdict

from cdcctl import output
from cdcctl.options import Format, Output, settings
from cdcctl.replay.in_place import Consumer
from cdckit.errors import UsageError
from consumers.replay.shadow import JOURNAL_FILE, Journal, read_journal

Name = Annotated[str, typer.Argument(help="search, parquet, audit, replica, or a sink that is installed.")]


def swap(
    context: typer.Context,
    consumer: Name,
    folder: Annotated[Path, typer.Argument(help="The folder of a replay from earliest to the present.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Make a replay's fresh satellite the live one; the consumer (stopped, please) goes on where the replay ended.

    The satellite that was there moves into the replay's folder; `cdcctl replay undo` takes all back.

    Example: [bold]cdcctl replay swap search .cdc/replays/search-20261124T100000[/]
    """
    found, journal = settings(context), read_journal(folder)
    if journal.consumer != consumer:
        raise UsageError(f"{folder} is a replay of {journal.consumer}", "name that consumer")
    question = f"make {folder} the satellite of {consumer}? It holds what changed since {journal.since}, no older row"
    if not yes and not output.confirm(question):
        raise typer.Exit(1)
    backup = Consumer(found, consumer).swap(folder, journal)
    output.note(f"swapped; [bold]cdcctl consumer run {consumer}[/] goes on where the replay ended")
    output.note(f"prove it: [bold]cdcctl verify {consumer}[/]; take it back: [bold]cdcctl replay undo {consumer}[/]")
    output.print_plain(str(backup))


def undo(context: typer.Context, consumer: Name) -> None:
    """Take a consumer's last --in-place or swap back: its leases byte for byte, and the folders. It must be stopped.

    Example: [bold]cdcctl replay undo search[/]
    """
    path = Consumer(settings(context), consumer).undo()
    output.note(f"undone: the leases of {consumer} are as they were before")
    output.print_plain(str(path))


def list_replays(context: typer.Context, output_format: Output = Format.TABLE) -> None:
    """List the replays below the data folder: what was asked for, and how far each has come.

    Example: [bold]cdcctl replay ls -o json[/]
    """
    folder = settings(context).folder / "replays"
    found = [(path.parent, read_journal(path.parent)) for path in sorted(folder.glob(f"*/{JOURNAL_FILE}"))]
    if output_format is Format.JSON:
        output.print_json([{"folder": str(path), **asdict(one)} for path, one in found])
    elif found:
        output.print_table(
            ["folder", "from", "to", "read", "applied", "state"],
            [
                (
                    path,
                    one.since,
                    one.until or "the present",
                    one.read,
                    one.applied,
                    _state(one),
                )
                for path, one in found
            ],
        )
    else:
        output.note(f"no replay in {output.escape(str(folder))}")


def _state(journal: Journal) -> str:
    return "done" if journal.complete else "cut off"
