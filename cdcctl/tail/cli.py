"""``cdcctl tail``: prints the changes on the stream."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated

import typer

from cdcctl import output
from cdcctl.change_options import Keys, Ops, Tables, Where, selection
from cdcctl.options import current_settings
from cdcctl.tail.last import last_changes
from cdcctl.tail.order import ReorderBuffer
from cdcctl.tail.printers import Csv, JsonArray, JsonLines, Pretty, Printer, Raw, View
from cdcctl.tail.stats import Statistics
from cdcctl.timespec import parse_point
from cdckit.errors import UsageError
from cdckit.runtime.signals import stop_on_signals
from consumers.filters.feed import Feed, FeedItem, RowHistory
from consumers.stream.points import Point
from consumers.stream.probe import Probe
from consumers.stream.reader import ShardPage, StreamReader
from consumers.stream.start import LATEST, StartPosition

_WINDOW = timedelta(seconds=1)


class TailFormat(StrEnum):
    """Output format of changes."""

    PRETTY = "pretty"
    JSONL = "jsonl"
    JSON = "json"
    CSV = "csv"
    RAW = "raw"


_PRINTERS: dict[TailFormat, Callable[[View], Printer]] = {
    TailFormat.PRETTY: Pretty, TailFormat.JSONL: JsonLines, TailFormat.JSON: JsonArray, TailFormat.CSV: Csv,
    TailFormat.RAW: Raw,
}  # fmt: skip


def tail(
    context: typer.Context,
    since: Annotated[
        str | None, typer.Option(help="Start: 10m, 2026-11-23T10:00, an LSN (16/B374D848) or earliest.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="End, same formats.")] = None,
    beginning: Annotated[bool, typer.Option("--from-beginning", help="Start at the oldest record.")] = False,
    last: Annotated[int | None, typer.Option("-n", "--last", min=1, help="Start with the last N changes.")] = None,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="Wait for new changes, or stop.")] = True,
    table: Tables = None,
    op: Ops = None,
    key: Keys = None,
    where: Where = None,
    columns: Annotated[str | None, typer.Option("--columns", help="Only these columns, comma-separated.")] = None,
    tx: Annotated[bool, typer.Option("--tx", help="Group by transaction, in commit order.")] = False,
    diff: Annotated[bool, typer.Option("--diff", help="Print one line per changed column.")] = False,
    lag: Annotated[bool, typer.Option("--lag", help="Print the time from commit to output of each change.")] = False,
    stats: Annotated[bool, typer.Option("--stats", help="Print counts and rates per table instead.")] = False,
    ordered: Annotated[bool, typer.Option("--ordered", help="Commit order across shards, a second later.")] = False,
    window: Annotated[
        float, typer.Option("--window", min=0, help="Seconds for which --ordered and --tx wait for late changes.")
    ] = _WINDOW.total_seconds(),
    shard: Annotated[
        list[str] | None, typer.Option("--shard", help="Only this shard, by id or number; repeatable.")
    ] = None,
    output_format: Annotated[
        TailFormat, typer.Option("--output", "-o", help="Format; raw is the text of the records.")
    ] = TailFormat.PRETTY,
) -> None:
    """Print the changes on the stream, from now or from an earlier position. Needs no Java and stores no checkpoint.

    A line has the commit time, the operation (I, U, D, T), the table, the key and the changed columns. Times and LSNs
    are those of the commit; ranges include both ends.

    Example: [bold]cdcctl tail --since 10m --where "total > 100" -o jsonl | jq .[/]
    """
    settings = current_settings(context)
    start = _start(since, beginning=beginning)
    selected = selection(
        start or Point(), None if until is None else parse_point(until, future=True), table, op, key, where
    )
    view = View(tuple(name.strip() for name in columns.split(",")) if columns else (), tx, diff, lag)
    printer = _printer(output_format, view, stats=stats)
    probe = Probe(settings.stream)
    only = _shard_filter(shard, probe)
    with stop_on_signals() as stopping:

        def feed_from(begin: StartPosition) -> Feed:
            reader = StreamReader(
                settings.stream,
                begin,
                not follow,
                stopping.is_set,
                probe.client,
                shard_filter=only,
                limiter=probe.limiter,
            )
            reader.open()
            return Feed(reader, selected, RowHistory() if output_format is TailFormat.PRETTY else None)

        if last is not None:
            feed, seen = last_changes(feed_from, last, start, probe)
        else:
            feed, seen = feed_from(LATEST if start is None else probe.start_for(start, datetime.now(UTC))), []
        if output_format is TailFormat.PRETTY and follow and not stats:
            output.note(f"[dim]reading stream {output.escape(settings.stream)}; Ctrl-C stops[/]")
        feed.reader.stop_when_caught_up = not follow
        more = feed.batches() if follow or last is None else ()  # with --no-follow exactly N, even if more have arrived
        buffer = ReorderBuffer(timedelta(seconds=window), by_transaction=tx) if ordered or tx else None
        _show(seen, more, feed.reader, printer, buffer)


def _show(
    seen: Sequence[FeedItem], more: Iterable[tuple[ShardPage, list[FeedItem]]], reader: StreamReader, printer: Printer,
    buffer: ReorderBuffer | None,
) -> None:  # fmt: skip
    try:
        printer.show(seen)
        for page, found in more:
            if buffer is None:
                printer.show(found)
            else:
                printer.show(buffer.add(page, found, reader.reading, datetime.now(UTC)))
        if buffer is not None:
            printer.show(buffer.drain())
    finally:
        printer.close()


def _start(text: str | None, *, beginning: bool) -> Point | None:
    if text is not None and beginning:
        raise UsageError("--since and --from-beginning cannot be combined", "remove one of them")
    return Point() if beginning else None if text is None else parse_point(text)


def _printer(output_format: TailFormat, view: View, *, stats: bool) -> Printer:
    if view.diff and output_format is not TailFormat.PRETTY:
        raise UsageError(
            f"--diff cannot be combined with -o {output_format}, which has before and after", "remove one of them"
        )
    if view.columns and output_format is TailFormat.RAW:
        raise UsageError("--columns cannot be combined with -o raw, which prints records unchanged", "use -o jsonl")
    if stats:
        if output_format in (TailFormat.CSV, TailFormat.RAW):
            raise UsageError(f"--stats cannot be printed as {output_format}", "use -o json, or remove -o")
        return Statistics(output_format is not TailFormat.PRETTY)
    return _PRINTERS[output_format](view)


def _shard_filter(requested: Sequence[str] | None, probe: Probe) -> Callable[[str], bool]:
    """A predicate for shards, selected by id or by the number at its end. Raises UsageError for an unknown shard."""
    if not requested:
        return lambda _: True
    known = [shard["ShardId"] for shard in probe.shards()]
    if missing := [text for text in requested if not any(_matches(shard, text) for shard in known)]:
        raise UsageError(f"the stream {probe.stream!r} has no shard {missing[0]}", f"it has {', '.join(known)}")
    return lambda shard: any(_matches(shard, text) for text in requested)


def _matches(shard: str, text: str) -> bool:
    return shard == text or (text.isdigit() and int(shard.rpartition("-")[2]) == int(text))
