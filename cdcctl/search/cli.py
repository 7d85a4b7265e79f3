"""``cdcctl search``: asks the search index, and makes it anew while it is in use."""

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
from cdcctl.options import Format, Output, settings
from cdcctl.timespec import parse_moment
from cdckit.errors import SatelliteError
from cdckit.runtime.settings import Settings
from cdckit.runtime.signals import stop_on_signals
from consumers.replay.catchup import Catchup, catchup
from consumers.search import query as index
from consumers.search.engine import Hit, Page, Stats
from consumers.search.options import read
from consumers.search.reindex import reindex as remake
from consumers.stream.points import Point
from consumers.stream.probe import Probe
from consumers.worker.status import read_reports, seconds_behind

CONSUMER = "search"
_MARK = re.compile("</?mark>")
app = typer.Typer(no_args_is_help=True, help="Ask the full-text index.")


@app.command()
def query(
    context: typer.Context,
    text: Annotated[str, typer.Argument(help='Words, AND, OR, NOT, prefix*, "a phrase", title:word, brackets.')],
    table: Annotated[str | None, typer.Option("--table", help="Only this table.")] = None,
    facet: Annotated[list[str] | None, typer.Option("--facet", help="Count this column's values; repeatable.")] = None,
    highlight: Annotated[bool, typer.Option("--highlight", help="Mark the words found.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many documents.")] = 10,
    offset: Annotated[int, typer.Option(min=0, help="How many to pass over.")] = 0,
    output_format: Output = Format.TABLE,
) -> None:
    """Find documents, best first; exit 0 also when there are none.

    Example: [bold]cdcctl search query 'blue AND shirt' --table products --facet status --highlight[/]
    """
    found = settings(context)
    wanted = index.request(text, table=table, limit=limit, offset=offset, facets=facet or ())
    with closing(index.open_index(found.satellite(CONSUMER), found.options(CONSUMER))) as opened:
        page, figures = opened.search(wanted), opened.stats()
    if output_format is Format.JSON:
        output.print_json(_as_json(page, figures, found, highlight))
        return
    output.print_table(["table", "key", "found", "committed"], [_row(hit, highlight) for hit in page.hits], markup=True)
    for column, counts in page.facets.items():
        output.print_text()
        output.print_table([column, "documents"], list(counts.items()))
    shown = f"{offset + 1}–{offset + len(page.hits)} of {page.total}" if page.hits else f"none of {page.total}"
    more = f"; --offset {offset + limit} for more" if offset + len(page.hits) < page.total else ""
    output.note(f"[dim]{shown} documents; {_freshness(figures, found)}{more}[/]")


@app.command()
def stats(context: typer.Context, output_format: Output = Format.TABLE) -> None:
    """Show what the index holds and how fresh it is.

    Example: [bold]cdcctl search stats -o json[/]
    """
    found = settings(context)
    figures = index.stats(found.satellite(CONSUMER), found.options(CONSUMER))
    if output_format is Format.JSON:
        output.print_json({**asdict(figures), "behind_seconds": _behind(found)})
        return
    output.print_table(["table", "documents"], list(figures.tables.items()))
    output.print_text(
        f"{figures.documents} documents, {figures.filtered} filtered, {figures.tombstones} tombstones, "
        f"{figures.partial} partial in {output.escape(figures.generation)} ({figures.engine}); "
        f"{_freshness(figures, found)}"
    )


@app.command()
def reindex(
    context: typer.Context,
    moment: Annotated[
        str | None, typer.Option("--from", help="Replay the stream from here (10m, a time, earliest) instead.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Swap although rows are missing in what was replayed.")
    ] = False,
    output_format: Output = Format.TABLE,
) -> None:
    """Make the index anew with cdc.toml's mapping and swap it in; searches and consumers go on meanwhile.

    The rows come from the index in use, so none is lost; with --from the stream is replayed into an empty one.

    Example: [bold]cdcctl search reindex[/]
    """
    found = settings(context)
    chosen = read(found.options(CONSUMER))
    with stop_on_signals() as stopping, closing(index.open_generations(found.satellite(CONSUMER), chosen)) as engine:
        stream = None if moment is None else _stream(found, moment, stopping.is_set)
        done = remake(engine, chosen.mapping, found.satellite(CONSUMER), stream, force=force)
    if output_format is Format.JSON:
        output.print_json(asdict(done))
    else:
        output.print_text(f"{done.rows} rows in [bold]{output.escape(done.generation)}[/], made beside {done.previous}")
    if not done.swapped:
        raise SatelliteError(
            f"not swapped: {done.missing} rows of {done.previous} are not in what the stream holds since then, and "
            f"{done.dead_lettered} changes could not be applied",
            "reindex without --from, from further back, or with --force",
        )


def _stream(found: Settings, moment: str, stopping: Callable[[], bool]) -> Catchup:
    wanted = parse_moment(moment)
    return catchup(found, wanted, Probe(found.stream).start_for(Point(wanted), datetime.now(UTC)), stopping)


def _as_json(page: Page, figures: Stats, found: Settings, highlight: bool) -> dict[str, object]:
    return {
        "total": page.total,
        "hits": [{**asdict(hit), "snippet": hit.snippet if highlight else _plain(hit.snippet)} for hit in page.hits],
        "facets": page.facets,
        "newest_commit": figures.newest_commit,
        "behind_seconds": _behind(found),
    }


def _row(hit: Hit, highlight: bool) -> tuple[str, str, str, str]:
    pieces = [_printable(html.unescape(piece)) for piece in _MARK.split(hit.snippet)]
    if highlight:  # every second piece is a word found
        snippet = "".join(
            f"[bold yellow]{output.escape(one)}[/]" if at % 2 else output.escape(one) for at, one in enumerate(pieces)
        )
    else:
        snippet = output.escape("".join(pieces))
    return output.escape(hit.table), output.escape(_printable(hit.key)), snippet, hit.commit_time[:19]


def _printable(text: str) -> str:
    """On one line, with nothing in it that steers a terminal."""
    return "".join(char if char.isprintable() else " " for char in text)


def _plain(snippet: str) -> str:
    return html.unescape(_MARK.sub("", snippet))


def _behind(found: Settings) -> float | None:
    """How far the consumer's shards on this machine are behind commit time; None when none has run here."""
    known = [
        behind for report in read_reports(found.folder, CONSUMER) if (behind := seconds_behind(report)) is not None
    ]
    return max(known, default=None)


def _freshness(figures: Stats, found: Settings) -> str:
    if figures.newest_commit is None:
        return "nothing indexed yet"
    age = (datetime.now(UTC) - datetime.fromisoformat(figures.newest_commit)).total_seconds()
    newest = f"newest change committed {_span(age)} ago"
    behind = _behind(found)
    return newest if behind is None else f"{_span(behind)} behind, {newest}"


def _span(seconds: float) -> str:
    for unit, size in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.1f} s"
