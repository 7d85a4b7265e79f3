"""``cdcctl search``: queries the full-text index and rebuilds it while it is in use."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from cdcctl import output
from cdcctl.options import Format, Output, current_settings
from cdcctl.timespec import parse_time
from cdckit.errors import SatelliteError
from cdckit.runtime.settings import Settings
from cdckit.runtime.signals import stop_on_signals
from consumers.replay.catchup import Catchup, catchup
from consumers.search import query as index
from consumers.search.engine import Hit, IndexStats, SearchPage
from consumers.search.options import read_options
from consumers.search.reindex import reindex as rebuild
from consumers.stream.points import Point
from consumers.stream.probe import Probe
from consumers.worker.status import read_reports, seconds_behind

CONSUMER = "search"
_MARK = re.compile("</?mark>")
app = typer.Typer(no_args_is_help=True, help="Query and rebuild the full-text index.")


@app.command()
def query(
    context: typer.Context,
    text: Annotated[str, typer.Argument(help='Words, AND, OR, NOT, prefix*, "a phrase", title:word, brackets.')],
    table: Annotated[str | None, typer.Option("--table", help="Only this table.")] = None,
    facet: Annotated[list[str] | None, typer.Option("--facet", help="Count this column's values; repeatable.")] = None,
    highlight: Annotated[bool, typer.Option("--highlight", help="Highlight the matching words.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Maximum number of documents.")] = 10,
    offset: Annotated[int, typer.Option(min=0, help="Number of documents to skip.")] = 0,
    output_format: Output = Format.TABLE,
) -> None:
    """Find documents, best match first. Exit status 0 also when there are none.

    Example: [bold]cdcctl search query 'blue AND shirt' --table products --facet status --highlight[/]
    """
    settings = current_settings(context)
    request = index.request(text, table=table, limit=limit, offset=offset, facets=facet or ())
    with closing(index.open_index(settings.satellite(CONSUMER), settings.options(CONSUMER))) as opened:
        page, figures = opened.search(request), opened.stats()
    if output_format is Format.JSON:
        output.print_json(_as_json(page, figures, settings, highlight))
        return
    output.print_table(["table", "key", "found", "committed"], [_row(hit, highlight) for hit in page.hits], markup=True)
    for column, counts in page.facets.items():
        output.print_text()
        output.print_table([column, "documents"], list(counts.items()))
    shown = f"{offset + 1}–{offset + len(page.hits)} of {page.total}" if page.hits else f"none of {page.total}"
    more = f"; --offset {offset + limit} for more" if offset + len(page.hits) < page.total else ""
    output.note(f"[dim]{shown} documents; {_freshness(figures, settings)}{more}[/]")


@app.command()
def stats(context: typer.Context, output_format: Output = Format.TABLE) -> None:
    """Show the number of documents in the index, and how up to date it is.

    Example: [bold]cdcctl search stats -o json[/]
    """
    settings = current_settings(context)
    figures = index.stats(settings.satellite(CONSUMER), settings.options(CONSUMER))
    if output_format is Format.JSON:
        output.print_json({**asdict(figures), "behind_seconds": _behind(settings)})
        return
    output.print_table(["table", "documents"], list(figures.tables.items()))
    output.print_text(
        f"{figures.documents} documents, {figures.filtered} filtered, {figures.tombstones} tombstones, "
        f"{figures.partial} partial in {output.escape(figures.generation)} ({figures.engine}); "
        f"{_freshness(figures, settings)}"
    )


@app.command()
def reindex(
    context: typer.Context,
    moment: Annotated[
        str | None, typer.Option("--from", help="Build from the stream, starting here (10m, a time, earliest).")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Swap the index in even if the replay lacks rows.")] = False,
    output_format: Output = Format.TABLE,
) -> None:
    """Rebuild the index with the mapping in cdc.toml and swap it in; searches and consumers continue meanwhile.

    The rows are copied from the live index, so none is lost; with --from the stream is replayed into an empty index.

    Example: [bold]cdcctl search reindex[/]
    """
    settings = current_settings(context)
    options = read_options(settings.options(CONSUMER))
    with (
        stop_on_signals() as stopping,
        closing(index.open_generations(settings.satellite(CONSUMER), options)) as engine,
    ):
        stream = None if moment is None else _stream(settings, moment, stopping.is_set)
        result = rebuild(engine, options.mapping, settings.satellite(CONSUMER), stream, force=force)
    if output_format is Format.JSON:
        output.print_json(asdict(result))
    else:
        name = output.escape(result.generation)
        output.print_text(f"{result.rows} rows in [bold]{name}[/], built next to {result.previous}")
    if not result.swapped:
        raise SatelliteError(
            f"not swapped: {result.missing} rows of {result.previous} are not in the replayed part of the stream, "
            f"and {result.dead_lettered} changes could not be applied",
            "reindex without --from, from an earlier time, or with --force",
        )


def _stream(settings: Settings, moment: str, stopping: Callable[[], bool]) -> Catchup:
    start = parse_time(moment)
    return catchup(settings, start, Probe(settings.stream).start_for(Point(start), datetime.now(UTC)), stopping)


def _as_json(page: SearchPage, figures: IndexStats, settings: Settings, highlight: bool) -> dict[str, object]:
    return {
        "total": page.total,
        "hits": [{**asdict(hit), "snippet": hit.snippet if highlight else _plain(hit.snippet)} for hit in page.hits],
        "facets": page.facets,
        "newest_commit": figures.newest_commit,
        "behind_seconds": _behind(settings),
    }


def _row(hit: Hit, highlight: bool) -> tuple[str, str, str, str]:
    pieces = [_printable(html.unescape(piece)) for piece in _MARK.split(hit.snippet)]
    if highlight:  # every second piece is a match
        snippet = "".join(
            f"[bold yellow]{output.escape(piece)}[/]" if index % 2 else output.escape(piece)
            for index, piece in enumerate(pieces)
        )
    else:
        snippet = output.escape("".join(pieces))
    return output.escape(hit.table), output.escape(_printable(hit.key)), snippet, hit.commit_time[:19]


def _printable(text: str) -> str:
    """The text on one line, without terminal control characters."""
    return "".join(char if char.isprintable() else " " for char in text)


def _plain(snippet: str) -> str:
    return html.unescape(_MARK.sub("", snippet))


def _behind(settings: Settings) -> float | None:
    """The greatest lag of the consumer's shards on this machine, in seconds; None when it has not run here."""
    lags = [
        behind for report in read_reports(settings.folder, CONSUMER) if (behind := seconds_behind(report)) is not None
    ]
    return max(lags, default=None)


def _freshness(figures: IndexStats, settings: Settings) -> str:
    if figures.newest_commit is None:
        return "nothing indexed yet"
    age = (datetime.now(UTC) - datetime.fromisoformat(figures.newest_commit)).total_seconds()
    newest = f"newest change committed {_duration(age)} ago"
    behind = _behind(settings)
    return newest if behind is None else f"{_duration(behind)} behind, {newest}"


def _duration(seconds: float) -> str:
    for unit, size in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.1f} s"
