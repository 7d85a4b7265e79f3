"""``cdcctl dlq``: lists, redrives and drops a consumer's dead letters."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from cdcctl import output
from cdcctl.options import Format, Output, current_settings
from cdcctl.timespec import parse_time
from cdckit.errors import ConsumerError, UsageError
from cdckit.runtime.settings import Settings
from consumers.dead_letters import DeadLetter, DeadLetterStore, open_store
from consumers.worker.factory import sink_context
from consumers.worker.redrive import SHARD, redrive
from consumers.worker.registry import consumer_names, find_factory

app = typer.Typer(no_args_is_help=True, help="List, redrive and drop dead letters.")
Consumer = Annotated[str, typer.Argument(help="search, parquet, audit, replica, or an installed sink.")]
Ids = Annotated[list[str] | None, typer.Argument(help="Ids, or their first characters.", show_default="all")]
Tables = Annotated[str | None, typer.Option("--table", help="Only dead letters of tables matching this glob.")]
Since = Annotated[str | None, typer.Option("--since", help="Only dead letters since: 10m, 2026-11-23T10:00:00Z.")]
SinkPath = Annotated[str | None, typer.Option("--sink", help="A custom sink, as module:name.")]


@app.command()
def ls(
    context: typer.Context,
    consumer: Annotated[str | None, typer.Argument(help="The consumer.", show_default="all known consumers")] = None,
    table: Tables = None,
    since: Since = None,
    output_format: Output = Format.TABLE,
) -> None:
    """List dead letters: changes that could not be applied, with the error.

    Example: [bold]cdcctl dlq ls search --since 1h -o json[/]
    """
    settings = current_settings(context)
    letters = [
        letter
        for name in ([consumer] if consumer else consumer_names())
        for letter in _select(_store(settings, name), None, table, since)
    ]
    if output_format is Format.JSON:
        output.print_json([_plain(letter) for letter in letters])
    elif letters:
        rows = [
            (letter.id, letter.consumer, letter.time[:19], letter.shard[-4:], letter.table or "?", letter.error)
            for letter in letters
        ]
        output.print_table(["id", "consumer", "stored at", "shard", "table", "error"], rows)
    else:
        output.note("no dead letters")


@app.command()
def show(
    context: typer.Context,
    consumer: Consumer,
    letter_id: Annotated[str, typer.Argument(metavar="ID", help="The id of the dead letter, or its first characters.")],
    raw: Annotated[bool, typer.Option("--raw", help="Print only the bytes of the record.")] = False,
    output_format: Output = Format.TABLE,
) -> None:
    """Show one dead letter: its position, its error and the record.

    Example: [bold]cdcctl dlq show search 3f2a --raw | jq .[/]
    """
    [letter] = _select(_store(current_settings(context), consumer), [letter_id], None, None)
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
    """Apply dead letters again and drop those that succeed. Exit status 5 when some remain.

    An old change never overwrites a newer one: it is superseded.

    Example: [bold]cdcctl dlq redrive search --table 'public.*'[/]
    """
    settings = current_settings(context)
    factory, store = find_factory(consumer, sink), _store(settings, consumer)
    letters = _select(store, ids, table, since)
    result = redrive(letters, store, lambda: factory(sink_context(settings, consumer, SHARD)))
    if output_format is Format.JSON:
        remaining = [{"id": letter.id, "error": error} for letter, error in result.remaining]
        output.print_json(
            {"applied": result.outcome.applied, "superseded": result.outcome.superseded, "remaining": remaining}
        )
    else:
        output.print_text(
            f"{len(letters)} dead letters: {result.outcome.applied} applied, {result.outcome.superseded} superseded, "
            f"{len(result.remaining)} remain"
        )
    if result.remaining:
        first, error = result.remaining[0]
        raise ConsumerError(
            f"{len(result.remaining)} dead letters still cannot be applied; {first.id}: {error}",
            f"fix the cause, then cdcctl dlq redrive {consumer} again",
        )


@app.command()
def drop(
    context: typer.Context,
    consumer: Consumer,
    ids: Ids = None,
    table: Tables = None,
    since: Since = None,
    everything: Annotated[bool, typer.Option("--all", help="Drop all dead letters.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    output_format: Output = Format.TABLE,
) -> None:
    """Permanently delete dead letters.

    Example: [bold]cdcctl dlq drop search 3f2a 77b0 --yes[/]
    """
    if not (ids or table or since or everything):
        raise UsageError("select dead letters by id, --table or --since, or use --all", f"cdcctl dlq ls {consumer}")
    store = _store(current_settings(context), consumer)
    letters = _select(store, ids, table, since)
    if letters and not yes and not output.confirm(f"Permanently delete {len(letters)} dead letters of {consumer}?"):
        raise typer.Exit(1)
    store.drop(letters)
    if output_format is Format.JSON:
        output.print_json({"dropped": [letter.id for letter in letters]})
    else:
        output.print_text(f"{len(letters)} dropped")


def _store(settings: Settings, consumer: str) -> DeadLetterStore:
    return open_store(settings.dead_letters, consumer, settings.folder)


def _select(
    store: DeadLetterStore, ids: Sequence[str] | None, table: str | None, since: str | None
) -> Sequence[DeadLetter]:
    letters = store.read()
    if ids:
        letters = [_by_id(letters, prefix) for prefix in ids]
    moment = None if since is None else parse_time(since).isoformat()
    return [
        letter
        for letter in letters
        if (table is None or fnmatch.fnmatchcase(letter.table, table)) and (moment is None or letter.time >= moment)
    ]


def _by_id(letters: Sequence[DeadLetter], prefix: str) -> DeadLetter:
    found = [letter for letter in letters if letter.id.startswith(prefix)]
    if len(found) != 1:
        what = "no dead letter has" if not found else f"{len(found)} dead letters have"
        raise UsageError(f"{what} an id that starts with {prefix!r}", "cdcctl dlq ls lists the ids")
    return found[0]


def _plain(letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": letter.id, "consumer": letter.consumer, "shard": letter.shard, "sequence_number": letter.sequence_number,
        "sub_sequence_number": letter.sub_sequence_number, "partition_key": letter.partition_key,
        "table": letter.table, "position": letter.position, "time": letter.time, "size": len(letter.data),
        "error": letter.error,
    }  # fmt: skip
