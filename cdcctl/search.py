"""``cdcctl search``: asks the search index."""

from __future__ import annotations

import html
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from cdcctl import output
from cdcctl.context import Format, Output, settings
from consumers.search import query as index

app = typer.Typer(no_args_is_help=True, help="Ask the full-text index.")


@app.command()
def query(
    context: typer.Context,
    text: Annotated[str, typer.Argument(help='Words, AND, OR, NOT, prefix*, "a phrase".')],
    tables: Annotated[str | None, typer.Option("--table", help="Only this table.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many documents.")] = 10,
    offset: Annotated[int, typer.Option(min=0, help="How many to pass over.")] = 0,
    output_format: Output = Format.TABLE,
) -> None:
    """Find documents, best first; exit 0 also when there are none.

    Example: [bold]cdcctl search query 'blue AND shirt' --table products -o json[/]
    """
    folder = settings(context).satellite("search")
    hits = index.search(folder, text, table=tables, limit=limit, offset=offset)
    if output_format is Format.JSON:
        output.print_json([asdict(hit) for hit in hits])
        return
    output.print_table(["table", "key", "found", "committed"], [_row(hit) for hit in hits])
    output.note(f"[dim]{len(hits)} documents; {_freshness(index.stats(folder).newest_commit)}[/]")


@app.command()
def stats(context: typer.Context, output_format: Output = Format.TABLE) -> None:
    """Show what the index holds and how fresh it is.

    Example: [bold]cdcctl search stats -o json[/]
    """
    found = index.stats(settings(context).satellite("search"))
    if output_format is Format.JSON:
        output.print_json(asdict(found))
        return
    output.print_table(["table", "documents"], list(found.tables.items()))
    output.print_text(
        f"{found.documents} documents, {found.tombstones} tombstones, {found.partial} partial; "
        f"{_freshness(found.newest_commit)}"
    )


def _row(hit: index.Hit) -> tuple[str, str, str, str]:
    plain = html.unescape(hit.snippet.replace("<mark>", "").replace("</mark>", ""))
    return hit.table, hit.key, " ".join(plain.split()), hit.commit_time[:19]


def _freshness(newest: str | None) -> str:
    if newest is None:
        return "nothing indexed yet"
    age = (datetime.now(UTC) - datetime.fromisoformat(newest)).total_seconds()
    return f"newest change committed {age:.1f} s ago"
