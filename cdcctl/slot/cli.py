"""``cdcctl slot``: lists, creates and drops replication slots."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from typing import Annotated

import typer

from cdcctl import output
from cdcctl.options import Format, Output, current_settings
from cdckit.errors import SlotLost, UsageError
from producer.postgres.connection import Source
from producer.postgres.credentials import SourceDsn
from producer.postgres.server import identify_server
from producer.postgres.slots import Slot, create_slot, drop_slot, find_slot, list_slots

app = typer.Typer(no_args_is_help=True, help="List, create and drop replication slots.")
Name = Annotated[str | None, typer.Argument(help="The slot.", show_default="the setting slot")]


@app.command()
def ls(context: typer.Context, output_format: Output = Format.TABLE) -> None:
    r"""List the server's logical slots, with their database, reader and retained WAL.

    Example: [bold]cdcctl slot ls -o json | jq '.\[] | select(.active_pid == null)'[/]
    """
    settings = current_settings(context)
    with closing(Source(SourceDsn(settings)())) as source:
        slots = list_slots(source)
    if output_format is Format.JSON:
        output.print_json([_plain(slot) for slot in slots])
    elif slots:
        columns = ["slot", "plugin", "database", "read by", "retains", "acknowledged", "wal_status"]
        output.print_table(columns, [_row(slot, ours=slot.name == settings.slot) for slot in slots], markup=True)
    else:
        output.note("no slot; [bold]cdcctl slot create[/] or [bold]cdcctl producer run[/] creates one")


@app.command()
def create(context: typer.Context, name: Name = None) -> None:
    """Create a slot with wal2json. It retains all changes from now on until the producer reads them.

    Example: [bold]cdcctl slot create[/]
    """
    settings = current_settings(context)
    with closing(Source(SourceDsn(settings)())) as source:
        create_slot(source, name or settings.slot)
    text = f"[green]created[/] the slot {output.escape(name or settings.slot)}; it retains WAL until"
    output.note(f"{text} [bold]cdcctl producer run[/] reads it")


@app.command()
def drop(
    context: typer.Context,
    name: Name = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
) -> None:
    """Drop a slot. Changes that are not on the stream yet are lost, so satellites must be filled again.

    Fails while a process reads the slot. Asks for confirmation, unless --yes.

    Example: [bold]cdcctl slot drop old_slot --yes[/]
    """
    settings = current_settings(context)
    slot_name = name or settings.slot
    with closing(Source(SourceDsn(settings)())) as source:
        slot = find_slot(source, slot_name)
        if slot is None:
            raise SlotLost(f"there is no slot {slot_name!r} on this server", "cdcctl slot ls")
        behind = identify_server(source).lsn - slot.confirmed
        lost = f"{output.file_size(behind)} of undelivered WAL"
        question = f"Drop the slot {slot_name!r} of database {slot.database!r}, with {lost}?"
        if not yes and not output.confirm(question):
            raise UsageError("nothing was dropped", "answer y, or use --yes")
        drop_slot(source, slot_name)
    output.note(f"[green]dropped[/] the slot {output.escape(slot_name)}")


def _plain(slot: Slot) -> dict[str, object]:
    return {**asdict(slot), "confirmed": str(slot.confirmed)}


def _row(slot: Slot, *, ours: bool) -> list[str]:
    name = output.escape(slot.name)
    reader = str(slot.active_pid) if slot.active_pid else "[yellow]none[/]"
    cells = [
        slot.plugin,
        output.escape(slot.database),
        reader,
        output.file_size(slot.retained),
        str(slot.confirmed),
        slot.wal_status,
    ]
    return [f"[bold]{name}[/]" if ours else name, *cells]
