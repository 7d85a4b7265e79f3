"""``cdcctl``: the root command. It mounts each noun and turns errors into messages and exit statuses.

A noun's module is imported only when that noun is called, because the libraries behind some of them load slowly.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from cdcctl import output
from cdcctl.options import add_setting_flags
from cdckit.errors import CdcError
from cdckit.runtime.settings import aws_region

_TRY, _SET_UP, _RUN, _MONITOR, _QUERY = (
    "Try it",
    "Set up",
    "Run",
    "Monitor and repair",
    "Query and verify",
)
_COMMANDS: Sequence[tuple[str, str, str, str]] = (
    ("demo", "demo.cli:demo", _TRY, "Run the full pipeline locally for a minute."),
    ("local", "sandbox.cli:app", _TRY, "Run a local sandbox: PostgreSQL and AWS."),
    ("init", "init.cli:init", _SET_UP, "Ask a few questions and write cdc.toml."),
    ("doctor", "doctor.cli:doctor", _SET_UP, "Check each prerequisite and print the fixes."),
    ("config", "config.cli:app", _SET_UP, "Show the settings in force."),
    ("slot", "slot.cli:app", _SET_UP, "List, create and drop replication slots."),
    ("stream", "stream.cli:app", _SET_UP, "Create, describe and reshard the stream."),
    ("aws", "aws.cli:app", _SET_UP, "Print the minimal IAM policy of each part."),
    ("producer", "producer.cli:app", _RUN, "Publish the source's changes to the stream."),
    ("consumer", "consumer.cli:app", _RUN, "Run the satellites' KCL applications."),
    ("status", "status.cli:status", _MONITOR, "Show the pipeline, from WAL to satellites."),
    ("top", "status.top:top", _MONITOR, "Show the same live, with sparklines."),
    ("tail", "tail.cli:tail", _MONITOR, "Print the changes on the stream."),
    ("replay", "replay.cli:app", _MONITOR, "Replay the stream from a given time."),
    ("dlq", "dlq.cli:app", _MONITOR, "List, redrive and drop dead letters."),
    ("leases", "leases.cli:app", _MONITOR, "List the consumers' leases."),
    ("verify", "verify.cli:verify", _QUERY, "Verify that a satellite equals the source."),
    ("search", "search.cli:app", _QUERY, "Query and rebuild the full-text index."),
    ("parquet", "parquet.cli:app", _QUERY, "Query the Parquet lake, maintain its files."),
    ("audit", "audit.cli:app", _QUERY, "Query and verify the audit log."),
)


class Root(TyperGroup):
    """The root group: turns an error into one line, a hint with the fix, and a documented exit status."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        """The commands in the order in which a new user needs them."""
        return [name for name, *_ in _COMMANDS if name in self.commands]

    def invoke(self, ctx: Any) -> Any:
        """Run the command. `cdckit.errors` lists the exit statuses; Ctrl-C exits with 130."""
        try:
            return super().invoke(ctx)
        except CdcError as error:
            output.print_error(error)
            raise typer.Exit(error.exit_code) from error
        except (KeyboardInterrupt, typer.Abort) as error:  # Abort: Ctrl-C or Ctrl-D at a question
            raise typer.Exit(130) from error
        except BrokenPipeError as error:
            # the reader closed the pipe (| head): discard what is still buffered
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from error


def _print_version(requested: bool) -> None:
    if requested:
        from importlib.metadata import version  # noqa: PLC0415 -- only this flag needs it

        output.print_text(f"cdcctl {version('cdckit')}")
        raise typer.Exit


def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Replicate PostgreSQL through a Kinesis stream into satellites. docs/commands.md lists the exit statuses.

    Example: [bold]cdcctl demo[/]
    """


def build(only: str | None = None) -> Any:
    """The command tree; with `only`, just that command, because importing the others is slow."""
    app = typer.Typer(
        cls=Root,
        no_args_is_help=True,
        add_completion=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(root)
    known = any(name == only for name, *_ in _COMMANDS)
    for name, target, panel, summary in _COMMANDS:
        if name == only or not known:
            _mount(app, name, target, panel, summary)
    command = get_command(app)
    add_setting_flags(command)
    return command


def _mount(app: typer.Typer, name: str, target: str, panel: str, summary: str) -> None:
    module, _, attribute = target.partition(":")
    command = getattr(import_module(f"cdcctl.{module}"), attribute)
    if isinstance(command, typer.Typer):
        app.add_typer(command, name=name, short_help=summary, rich_help_panel=panel)
    else:
        app.command(name, short_help=summary, rich_help_panel=panel)(command)


def main() -> None:
    """Entry point of the `cdcctl` script."""
    os.environ.update(aws_region(os.environ))
    first = sys.argv[1] if len(sys.argv) > 1 else None
    build("config" if first == "--version" else first)(prog_name="cdcctl")


if __name__ == "__main__":
    main()
