"""``cdcctl``: the root command, how errors leave it, and where each noun is mounted."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from cdcctl import audit, config, consumer, demo, dlq, local, output, parquet, producer, replay, search, tail, verify
from cdcctl.context import add_setting_flags
from cdckit.errors import CdcError
from cdckit.settings import aws_region

_TRY, _RUN, _ASK, _SET = "Try it", "Run it", "Ask the satellites", "Set up"


class Root(TyperGroup):
    """The root group: turns errors into one clear line, what mends it, and a documented exit status."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; `cdckit.errors` lists the exit statuses, 130 is Ctrl-C."""
        try:
            return super().invoke(ctx)
        except CdcError as error:
            output.failure(error)
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt as error:
            raise typer.Exit(130) from error
        except BrokenPipeError as error:
            # whoever read us has seen enough (| head); what is still buffered goes nowhere
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from error


app = typer.Typer(
    cls=Root,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("demo", rich_help_panel=_TRY)(demo.demo)
app.add_typer(local.app, name="local", rich_help_panel=_TRY)
app.add_typer(producer.app, name="producer", rich_help_panel=_RUN)
app.add_typer(consumer.app, name="consumer", rich_help_panel=_RUN)
app.add_typer(dlq.app, name="dlq", rich_help_panel=_RUN)
app.command("tail", rich_help_panel=_RUN)(tail.tail)
app.command("replay", rich_help_panel=_RUN)(replay.replay)
app.add_typer(search.app, name="search", rich_help_panel=_ASK)
app.add_typer(parquet.app, name="parquet", rich_help_panel=_ASK)
app.add_typer(audit.app, name="audit", rich_help_panel=_ASK)
app.command("verify", rich_help_panel=_ASK)(verify.verify)
app.add_typer(config.app, name="config", rich_help_panel=_SET)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415 -- only this flag needs it

        output.print_text(f"cdcctl {version('cdckit')}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Satellites that follow PostgreSQL: search, Parquet and audit, over a Kinesis stream.

    Example: [bold]cdcctl demo[/]
    """


def build() -> Any:
    """The finished command tree."""
    command = get_command(app)
    add_setting_flags(command)
    return command


def main() -> None:
    """The entry point."""
    os.environ.update(aws_region(os.environ))
    build()(prog_name="cdcctl")


if __name__ == "__main__":
    main()
