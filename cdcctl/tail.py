"""``cdcctl tail``: watches the stream."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated

import typer

from cdcctl import lines, output
from cdcctl.context import settings
from cdcctl.moments import parse_moment
from cdcctl.signals import stop_on_signals
from cdckit.change import Change
from cdckit.errors import EnvelopeError
from consumers.begin import LATEST, Begin
from consumers.oversize import Fetcher
from consumers.points import begin_at
from consumers.reader import Page, StreamReader


class TailFormat(StrEnum):
    """How changes are printed."""

    PRETTY = "pretty"
    JSONL = "jsonl"
    RAW = "raw"


@dataclass(frozen=True, slots=True)
class Seen:
    """One record: its bytes, and the change in it or why it is none."""

    shard: str
    data: bytes
    change: Change | None
    error: EnvelopeError | None = None


def tail(
    context: typer.Context,
    since: Annotated[str | None, typer.Option(help="10m, 2026-11-23T10:00:00Z or earliest, by commit time.")] = None,
    table: Annotated[
        list[str] | None, typer.Option("--table", help="Only tables that match this glob; repeatable.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="Wait for more, or end at the present.")] = True,
    output_format: Annotated[
        TailFormat, typer.Option("--output", "-o", help="For people, scripts, or as it is.")
    ] = TailFormat.PRETTY,
) -> None:
    """Watch live changes on the stream, or those since a time; needs no Java and keeps no checkpoint.

    Example: [bold]cdcctl tail --since 10m --table 'public.*' --no-follow -o jsonl | jq .[/]
    """
    found = settings(context)
    start, moment = start_of(since)
    with stop_on_signals() as stopping:
        reader = StreamReader(found.stream, start, stop_when_caught_up=not follow, stopping=stopping.is_set)
        reader.open()
        if output_format is TailFormat.PRETTY:
            output.note(f"[dim]watching stream {output.escape(found.stream)}; Ctrl-C stops[/]")
        show = _printer(output_format)
        for seen in changes(reader.pages(), moment, table or []):
            show(seen)


def start_of(since: str | None) -> tuple[Begin, datetime | None]:
    """Where to read from by arrival, and the commit time from which changes count."""
    if since is None:
        return LATEST, None
    moment = parse_moment(since)
    return begin_at(moment), moment


def changes(pages: Iterator[Page], since: datetime | None, globs: list[str]) -> Iterator[Seen]:
    """The records of the pages that match; an unreadable one always does."""
    fetcher = Fetcher()
    for page in pages:
        for record in page.records:
            try:
                change = fetcher.decode(record.data)
            except EnvelopeError as error:
                yield Seen(page.shard, record.data, None, error)
                continue
            if (since is None or change.commit_time >= since) and matches(change, globs):
                yield Seen(page.shard, record.data, change)


def matches(change: Change, globs: list[str]) -> bool:
    """Whether the change's table matches one of the globs (none given: yes)."""
    name = f"{change.table.schema}.{change.table.name}"
    return not globs or any(fnmatch.fnmatchcase(name, glob) for glob in globs)


def _printer(output_format: TailFormat) -> Callable[[Seen], None]:
    if output_format is TailFormat.RAW:
        return lambda seen: output.print_plain(seen.data.decode(errors="replace"))
    if output_format is TailFormat.JSONL:
        return _print_json
    return lambda seen: output.print_line(
        lines.pretty(seen.change)
        if seen.change
        else f"[red]? unreadable record[/] [dim]{output.escape(str(seen.error))}[/]"
    )


def _print_json(seen: Seen) -> None:
    if seen.change is None:
        output.print_json({"unreadable": str(seen.error), "shard": seen.shard})
    else:
        output.print_json(lines.as_json(seen.change))
