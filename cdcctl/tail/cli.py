"""``cdcctl tail``: watches the stream."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated

import typer

from cdcctl import output
from cdcctl.change_options import Keys, Ops, Tables, Where, selection
from cdcctl.options import settings
from cdcctl.tail.last import last_changes
from cdcctl.tail.order import Orderer
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
    """How changes are printed."""

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
        str | None, typer.Option(help="From here: 10m, 2026-11-23T10:00, an LSN (16/B374D848) or earliest.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Up to here (likewise), then end.")] = None,
    beginning: Annotated[bool, typer.Option("--from-beginning", help="From the oldest record on the stream.")] = False,
    last: Annotated[int | None, typer.Option("-n", "--last", min=1, help="The last N changes first.")] = None,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="Wait for more, or end at the present.")] = True,
    table: Tables = None,
    op: Ops = None,
    key: Keys = None,
    where: Where = None,
    columns: Annotated[str | None, typer.Option("--columns", help="Only these columns, with commas.")] = None,
    tx: Annotated[bool, typer.Option("--tx", help="Group by transaction, in commit order.")] = False,
    diff: Annotated[bool, typer.Option("--diff", help="A line for each column that changed.")] = False,
    lag: Annotated[bool, typer.Option("--lag", help="How long after its commit each change is shown.")] = False,
    stats: Annotated[bool, typer.Option("--stats", help="Count and rates of each table instead.")] = False,
    ordered: Annotated[bool, typer.Option("--ordered", help="Commit order across shards; a second later.")] = False,
    window: Annotated[
        float, typer.Option("--window", min=0, help="Seconds that --ordered and --tx wait for late changes.")
    ] = _WINDOW.total_seconds(),
    shard: Annotated[
        list[str] | None, typer.Option("--shard", help="Only this shard, by id or number; repeatable.")
    ] = None,
    output_format: Annotated[
        TailFormat, typer.Option("--output", "-o", help="pretty for people; raw is the records' own text.")
    ] = TailFormat.PRETTY,
) -> None:
    """Watch changes on the stream, from now or from a place in its past; needs no Java and keeps no checkpoint.

    A line is the commit's time, the operation (I, U, D, T), the table, the key and what changed. Times and LSNs are
    those of the commit; both ends of a range count.

    Example: [bold]cdcctl tail --since 10m --where "total > 100" -o jsonl | jq .[/]
    """
    found = settings(context)
    asked = _since(since, beginning=beginning)
    chosen = selection(
        asked or Point(), None if until is None else parse_point(until, future=True), table, op, key, where
    )
    view = View(tuple(name.strip() for name in columns.split(",")) if columns else (), tx, diff, lag)
    printer = _printer(output_format, view, stats=stats)
    probe = Probe(found.stream)
    only = _only(shard, probe)
    with stop_on_signals() as stopping:

        def feed_from(begin: StartPosition) -> Feed:
            reader = StreamReader(
                found.stream, begin, not follow, stopping.is_set, probe.client, shard_filter=only, limiter=probe.limiter
            )
            reader.open()
            return Feed(reader, chosen, RowHistory() if output_format is TailFormat.PRETTY else None)

        if last is not None:
            feed, seen = last_changes(feed_from, last, asked, probe)
        else:
            feed, seen = feed_from(LATEST if asked is None else probe.start_for(asked, datetime.now(UTC))), []
        if output_format is TailFormat.PRETTY and follow and not stats:
            output.note(f"[dim]watching stream {output.escape(found.stream)}; Ctrl-C stops[/]")
        feed.reader.stop_when_caught_up = not follow
        more = feed.batches() if follow or last is None else ()  # the last N are N, whatever came meanwhile
        _show(seen, more, feed.reader, printer, Orderer(timedelta(seconds=window), whole=tx) if ordered or tx else None)


def _show(
    seen: Sequence[FeedItem], more: Iterable[tuple[ShardPage, list[FeedItem]]], reader: StreamReader, printer: Printer,
    orderer: Orderer | None,
) -> None:  # fmt: skip
    try:
        printer.show(seen)
        for page, found in more:
            if orderer is None:
                printer.show(found)
            else:
                printer.show(orderer.take(page, found, reader.reading, datetime.now(UTC)))
        if orderer is not None:
            printer.show(orderer.rest())
    finally:
        printer.close()


def _since(text: str | None, *, beginning: bool) -> Point | None:
    if text is not None and beginning:
        raise UsageError("--since and --from-beginning exclude each other", "leave one of them out")
    return Point() if beginning else None if text is None else parse_point(text)


def _printer(output_format: TailFormat, view: View, *, stats: bool) -> Printer:
    if view.diff and output_format is not TailFormat.PRETTY:
        raise UsageError(f"--diff is for people: -o {output_format} has before and after", "leave one of them out")
    if view.columns and output_format is TailFormat.RAW:
        raise UsageError("-o raw prints records as they are: --columns has no place there", "use -o jsonl")
    if stats:
        if output_format in (TailFormat.CSV, TailFormat.RAW):
            raise UsageError(f"--stats cannot be printed as {output_format}", "use -o json, or none")
        return Statistics(output_format is not TailFormat.PRETTY)
    return _PRINTERS[output_format](view)


def _only(wanted: Sequence[str] | None, probe: Probe) -> Callable[[str], bool]:
    """Whether a shard was asked for: by its id, or by the number at its end. Raises UsageError when it is none."""
    if not wanted:
        return lambda _: True
    known = [shard["ShardId"] for shard in probe.shards()]
    asked = {one: [shard for shard in known if _is(shard, one)] for one in wanted}
    if missing := [one for one, found in asked.items() if not found]:
        raise UsageError(f"the stream {probe.stream!r} has no shard {missing[0]}", f"it has {', '.join(known)}")
    return lambda shard: any(_is(shard, one) for one in wanted)


def _is(shard: str, asked: str) -> bool:
    return shard == asked or (asked.isdigit() and int(shard.rpartition("-")[2]) == int(asked))
