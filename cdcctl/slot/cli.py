"""``cdcctl slot``: replication slots by hand, with guard rails."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from typing import Annotated

import typer

from cdcctl import output
from cdcctl.options import Format, Output, settings
from cdcctl.status.render import size
from cdckit.errors import SlotLost, UsageError
from producer.postgres.connection import Source
from producer.postgres.credentials import SourceDsn
from producer.postgres.server import identify_server
from producer.postgres.slots import Slot, create_slot, drop_slot, find_slot, list_slots

app = typer.Typer(no_args_is_help=True, help="See, make and drop replication slots.")
Name = Annotated[str | None, typer.Argument(help="The slot. [default: the setting slot]")]


@app.command()
def ls(context: typer.Context, output_format: Output = Format.TABLE) -> None:
    r"""List the server's logical slots: whose they are, who reads them, how much WAL each keeps.

    Example: [bold]cdcctl slot ls -o json | jq '.\[] | select(.active_pid == null)'[/]
    """
    found = settings(context)
    with closing(Source(SourceDsn(found)())) as source:
        slots = list_slots(source)
    if output_format is Format.JSON:
        output.print_json([_plain(slot) for slot in slots])
    elif slots:
        columns = ["slot", "plugin", "database", "read by", "keeps", "acknowledged", "wal_status"]
        output.print_table(columns, [_row(slot, ours=slot.name == found.slot) for slot in slots], markup=True)
    else:
        output.note("no slot; [bold]cdcctl slot create[/] makes one, [bold]cdcctl producer run[/] too")


@app.command()
def create(context: typer.Context, name: Name = None) -> None:
    """Make a slot with wal2json: changes from now on wait in it for the producer.

    Example: [bold]cdcctl slot create[/]
    """
    found = settings(context)
    with closing(Source(SourceDsn(found)())) as source:
        create_slot(source, name or found.slot)
    text = f"[green]made[/] the slot {output.escape(name or found.slot)}; it keeps WAL until"
    output.note(f"{text} [bold]cdcctl producer run[/] reads it")


@app.command()
def drop(
    context: typer.Context,
    name: Name = None,
    sure: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Drop a slot; changes that the stream does not have yet never come, so satellites must be filled anew.

    Refused while somebody reads the slot. Asks, unless --yes.

    Example: [bold]cdcctl slot drop old_slot --yes[/]
    """
    found = settings(context)
    wanted = name or found.slot
    with closing(Source(SourceDsn(found)())) as source:
        slot = find_slot(source, wanted)
        if slot is None:
            raise SlotLost(f"there is no slot {wanted!r} on this server", "cdcctl slot ls")
        behind = identify_server(source).lsn - slot.confirmed
        lost = f"{size(behind)} of WAL that it has not delivered"
        question = f"Drop the slot {wanted!r} of database {slot.database!r}, with {lost}?"
        if not sure and not output.confirm(question):
            raise UsageError("nothing was dropped", "answer y, or say --yes")
        drop_slot(source, wanted)
    output.note(f"[green]dropped[/] the slot {output.escape(wanted)}")


def _plain(slot: Slot) -> dict[str, object]:
    return {**asdict(slot), "confirmed": str(slot.confirmed)}


def _row(slot: Slot, *, ours: bool) -> list[str]:
    name = output.escape(slot.name)
    reader = str(slot.active_pid) if slot.active_pid else "[yellow]nobody[/]"
    cells = [
        slot.plugin,
        output.escape(slot.database),
        reader,
        size(slot.retained),
        str(slot.confirmed),
        slot.wal_status,
    ]
    return [f"[bold]{name}[/]" if ours else name, *cells]
