"""``cdcctl dlq``: the dead letters of a consumer."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from cdcctl import output
from cdcctl.options import Format, Output, settings
from cdcctl.timespec import parse_moment
from cdckit.errors import ConsumerError, UsageError
from cdckit.runtime.settings import Settings
from consumers.dead_letters import DeadLetter, DeadLetterStore, open_store
from consumers.worker.factory import sink_context
from consumers.worker.redrive import SHARD, redrive
from consumers.worker.registry import consumer_names, find_factory

app = typer.Typer(no_args_is_help=True, help="See, redrive and drop dead letters.")
Consumer = Annotated[str, typer.Argument(help="search, parquet, audit, replica, or a sink that is installed.")]
Ids = Annotated[list[str] | None, typer.Argument(help="Letters' ids, or their first characters. [default: all]")]
Tables = Annotated[str | None, typer.Option("--table", help="Only letters of tables that match this glob.")]
Since = Annotated[str | None, typer.Option("--since", help="Only letters kept since: 10m, 2026-11-23T10:00:00Z.")]
SinkPath = Annotated[str | None, typer.Option("--sink", help="A sink of your own, as module:name.")]


@app.command()
def ls(
    context: typer.Context,
    consumer: Annotated[str | None, typer.Argument(help="One consumer. [default: all that are known]")] = None,
    table: Tables = None,
    since: Since = None,
    output_format: Output = Format.TABLE,
) -> None:
    """List dead letters: what could not be applied, and why.

    Example: [bold]cdcctl dlq ls search --since 1h -o json[/]
    """
    found = settings(context)
    letters = [
        letter
        for name in ([consumer] if consumer else consumer_names())
        for letter in _wanted(_store(found, name), None, table, since)
    ]
    if output_format is Format.JSON:
        output.print_json([_plain(letter) for letter in letters])
    elif letters:
        rows = [(one.id, one.consumer, one.time[:19], one.shard[-4:], one.table or "?", one.error) for one in letters]
        output.print_table(["id", "consumer", "kept at", "shard", "table", "error"], rows)
    else:
        output.note("no dead letters")


@app.command()
def show(
    context: typer.Context,
    consumer: Consumer,
    letter_id: Annotated[str, typer.Argument(metavar="ID", help="The letter's id, or its first characters.")],
    raw: Annotated[bool, typer.Option("--raw", help="Print the record's bytes and nothing else.")] = False,
    output_format: Output = Format.TABLE,
) -> None:
    """Show one dead letter: its place, its error and the record itself.

    Example: [bold]cdcctl dlq show search 3f2a --raw | jq .[/]
    """
    [letter] = _wanted(_store(settings(context), consumer), [letter_id], None, None)
    if raw:
        output.print_bytes(letter.data)
    elif output_format is Format.JSON:
        output.print_json({**_plain(letter), "data": letter.data.decode(errors="backslashreplace")})
    else:
        output.print_table(["", ""], list(_plain(letter).items()))
        output.print_plain(letter.data[:4000].decode(errors="backslashreplace"))


@app.command("redrive")
def redrive_letters(
    context: typer.Context,
    consumer: Consumer,
    ids: Ids = None,
    table: Tables = None,
    since: Since = None,
    sink: SinkPath = None,
    output_format: Output = Format.TABLE,
) -> None:
    """Apply dead letters once more; what is applied now is dropped, the rest stays. Exit 5 when some stay.

    An old change never overwrites a newer one: it is superseded.

    Example: [bold]cdcctl dlq redrive search --table 'public.*'[/]
    """
    found = settings(context)
    factory, store = find_factory(consumer, sink), _store(found, consumer)
    letters = _wanted(store, ids, table, since)
    done = redrive(letters, store, lambda: factory(sink_context(found, consumer, SHARD)))
    if output_format is Format.JSON:
        remaining = [{"id": letter.id, "error": error} for letter, error in done.remaining]
        output.print_json(
            {"applied": done.outcome.applied, "superseded": done.outcome.superseded, "remaining": remaining}
        )
    else:
        output.print_text(
            f"{len(letters)} letters: {done.outcome.applied} applied, {done.outcome.superseded} superseded, "
            f"{len(done.remaining)} remain"
        )
    if done.remaining:
        first, error = done.remaining[0]
        raise ConsumerError(f"{len(done.remaining)} still cannot be applied; {first.id}: {error}", "mend the cause")


@app.command()
def drop(
    context: typer.Context,
    consumer: Consumer,
    ids: Ids = None,
    table: Tables = None,
    since: Since = None,
    everything: Annotated[bool, typer.Option("--all", help="Drop all of them.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    output_format: Output = Format.TABLE,
) -> None:
    """Forget dead letters for good.

    Example: [bold]cdcctl dlq drop search 3f2a 77b0 --yes[/]
    """
    if not (ids or table or since or everything):
        raise UsageError("name letters by id, --table or --since, or say --all", f"cdcctl dlq ls {consumer}")
    store = _store(settings(context), consumer)
    letters = _wanted(store, ids, table, since)
    if letters and not yes and not output.confirm(f"Forget {len(letters)} dead letters of {consumer} for good?"):
        raise typer.Exit(1)
    store.drop(letters)
    if output_format is Format.JSON:
        output.print_json({"dropped": [letter.id for letter in letters]})
    else:
        output.print_text(f"{len(letters)} dropped")


def _store(found: Settings, consumer: str) -> DeadLetterStore:
    return open_store(found.dead_letters, consumer, found.folder)


def _wanted(
    store: DeadLetterStore, ids: Sequence[str] | None, table: str | None, since: str | None
) -> Sequence[DeadLetter]:
    letters = store.read()
    if ids:
        letters = [_by_id(letters, wanted) for wanted in ids]
    moment = None if since is None else parse_moment(since).isoformat()
    return [
        letter
        for letter in letters
        if (table is None or fnmatch.fnmatchcase(letter.table, table)) and (moment is None or letter.time >= moment)
    ]


def _by_id(letters: Sequence[DeadLetter], wanted: str) -> DeadLetter:
    found = [letter for letter in letters if letter.id.startswith(wanted)]
    if len(found) != 1:
        what = "no dead letter has" if not found else f"{len(found)} dead letters have"
        raise UsageError(f"{what} an id that starts with {wanted!r}", "cdcctl dlq ls shows the ids")
    return found[0]


def _plain(letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": letter.id, "consumer": letter.consumer, "shard": letter.shard, "sequence_number": letter.sequence_number,
        "sub_sequence_number": letter.sub_sequence_number, "partition_key": letter.partition_key,
        "table": letter.table, "position": letter.position, "time": letter.time, "size": len(letter.data),
        "error": letter.error,
    }  # fmt: skip
