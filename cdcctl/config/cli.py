"""``cdcctl config``: shows the resolved settings and the origin of each."""

from __future__ import annotations

import os

import typer

from cdcctl import output
from cdcctl.options import Format, Output, origins
from cdckit.runtime.settings import environment_name, mask_password

app = typer.Typer(no_args_is_help=True, help="Show the settings in force.")
_AWS = ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID")


@app.command()
def show(context: typer.Context, output_format: Output = Format.TABLE) -> None:
    """Show each setting with its value and origin; passwords are masked.

    Example: [bold]cdcctl config show --stream orders -o json[/]
    """
    settings, values = origins(context)
    rows = [
        {
            "name": item.name,
            "value": mask_password(item.value) if item.secret else item.value,
            "origin": item.origin,
            "environment": environment_name(item.name),
            "meaning": item.text,
        }
        for item in values
    ]
    aws = {name: os.environ[name] for name in _AWS if name in os.environ}
    if output_format is Format.JSON:
        output.print_json({"settings": rows, "consumers": settings.consumers, "aws": aws})
        return
    output.print_table(
        ["setting", "value", "from"],
        [(row["name"], row["value"], row["origin"]) for row in rows]
        + [(name, value, "environment (standard AWS)") for name, value in aws.items()],
    )
