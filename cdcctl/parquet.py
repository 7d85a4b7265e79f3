"""``cdcctl parquet``: asks the lake."""

from __future__ import annotations

from typing import Annotated

import typer

from cdcctl import output
from cdcctl.context import Format, Output, settings
from consumers.parquet.query import ask

app = typer.Typer(no_args_is_help=True, help="Ask the Parquet lake.")


@app.command()
def query(
    context: typer.Context,
    sql: Annotated[str, typer.Argument(help="DuckDB's SQL over T, T_changes and T_asof('…').")],
    output_format: Output = Format.TABLE,
) -> None:
    """Run SQL over the lake.

    Example: [bold]cdcctl parquet query 'select count(*) from orders'[/]
    """
    answer = ask(settings(context).satellite("parquet"), sql)
    if output_format is Format.JSON:
        output.print_json([dict(zip(answer.columns, row, strict=True)) for row in answer.rows])
    else:
        output.print_table(list(answer.columns), answer.rows)


@app.command()
def ls(context: typer.Context) -> None:
    """List tables.

    Example: [bold]cdcctl parquet ls[/]
    """
    output.print_text(str(settings(context).satellite("parquet")))
