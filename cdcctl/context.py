"""The settings in force for one command: flags, environment, ``cdc.toml``; and the switch ``-o``.

Every command takes every setting as a flag (``--stream``, ``CDC_STREAM`` and ``stream`` are one thing): the flags are
added to the finished command tree, so that no command can forget one or call it by another name.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.main import get_command

from cdckit.errors import UsageError
from cdckit.settings import FILE_NAME, Origin, Settings, resolve, texts

_FLAGS = "cdc.flags"
_PREFIX = "setting_"
_PANEL = "Settings (also CDC_… and cdc.toml; see `cdcctl config show`)"


class Format(StrEnum):
    """How a result is printed."""

    TABLE = "table"
    JSON = "json"


Output = Annotated[Format, typer.Option("--output", "-o", help="Print a table, or JSON for scripts.")]


def load(flags: Mapping[str, str | None]) -> tuple[Settings, list[Origin]]:
    """Read ``cdc.toml`` (``--config``/``CDC_CONFIG``, else the working folder's) and resolve all settings."""
    named = flags.get("config") or os.environ.get("CDC_CONFIG")
    path = Path(named or FILE_NAME)
    try:
        text = path.read_text(encoding="utf-8") if named or path.exists() else None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}", "name an existing file with --config") from error
    return resolve(flags, os.environ, text, str(path))


def config_environ(context: typer.Context) -> dict[str, str]:
    """The variable that makes another process read the ``cdc.toml`` that ``--config`` names; empty without the flag."""
    flags: Mapping[str, str | None] = context.find_root().meta.get(_FLAGS, {})
    return {"CDC_CONFIG": str(Path(named).absolute())} if (named := flags.get("config")) else {}


def settings(context: typer.Context) -> Settings:
    """The settings in force for this call."""
    return origins(context)[0]


def origins(context: typer.Context) -> tuple[Settings, list[Origin]]:
    """The settings in force and where each came from."""
    flags: Mapping[str, str | None] = context.find_root().meta.get(_FLAGS, {})
    return load(flags)


def add_setting_flags(command: Any) -> None:
    """Give the command, or every command below it, one option a setting."""
    for child in getattr(command, "commands", {}).values():
        add_setting_flags(child)
    if not hasattr(command, "commands"):
        taken = {flag for parameter in command.params for flag in parameter.opts}
        command.params += [option for option in _setting_options() if not taken.intersection(option.opts)]


def _setting_options() -> list[Any]:
    """One option a setting, made by typer itself from a function that nobody calls."""
    probe = typer.Typer()
    probe.command()(_signed([("config", "the settings' file [default: cdc.toml]"), *texts().items()]))
    command: Any = get_command(probe)
    return [parameter for parameter in command.params if str(parameter.name).startswith(_PREFIX)]


def _signed(settings: list[tuple[str, str]]) -> Callable[[], None]:
    def never_called() -> None: ...

    kind = inspect.Parameter.KEYWORD_ONLY
    never_called.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(_PREFIX + name, kind, default=None, annotation=Annotated[str | None, _option(name, text)])
            for name, text in settings
        ]
    )
    return never_called


def _option(name: str, text: str) -> Any:
    return typer.Option(
        f"--{name.replace('_', '-')}", help=text, callback=_remember, expose_value=False, rich_help_panel=_PANEL
    )


def _remember(context: typer.Context, parameter: typer.CallbackParam, value: str | None) -> None:
    name = str(parameter.name).removeprefix(_PREFIX)
    context.find_root().meta.setdefault(_FLAGS, {})[name] = value
