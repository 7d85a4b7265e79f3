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
from cdckit.runtime.settings import FILE_NAME, Settings, SettingValue, descriptions, list_settings, resolve

_FLAGS = "cdc.flags"
_PREFIX = "setting_"
_PANEL = "Settings (also CDC_… and cdc.toml; see `cdcctl config show`)"


_AWS = {
    "profile": "a profile of ~/.aws/config",
    "region": "the AWS region",
    "endpoint_url": "another endpoint, for a local AWS",
}
_AWS_VARIABLES = {
    "profile": ("AWS_PROFILE",),
    "region": ("AWS_REGION", "AWS_DEFAULT_REGION"),
    "endpoint_url": ("AWS_ENDPOINT_URL",),
}


class Format(StrEnum):
    """How a result is printed."""

    TABLE = "table"
    JSON = "json"


Output = Annotated[Format, typer.Option("--output", "-o", help="Print a table, or JSON for scripts.")]


def config_path(context: typer.Context) -> Path | None:
    """The settings' file that ``--config`` or ``CDC_CONFIG`` names; None when neither does."""
    flags: Mapping[str, str | None] = context.find_root().meta.get(_FLAGS, {})
    named = flags.get("config") or os.environ.get("CDC_CONFIG")
    return Path(named) if named else None


def load(flags: Mapping[str, str | None], named: Path | None) -> tuple[Settings, list[SettingValue]]:
    """Read ``cdc.toml`` (the file `named`, else the working folder's if there is one) and resolve all settings."""
    path = named or Path(FILE_NAME)
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


def origins(context: typer.Context) -> tuple[Settings, list[SettingValue]]:
    """The settings in force and where each came from."""
    flags: Mapping[str, str | None] = context.find_root().meta.get(_FLAGS, {})
    return load(flags, config_path(context))


def unwritten(context: typer.Context) -> list[SettingValue]:
    """The settings as flags and environment give them, without any file."""
    flags: Mapping[str, str | None] = context.find_root().meta.get(_FLAGS, {})
    return resolve(flags, os.environ)[1]


def add_setting_flags(command: Any) -> None:
    """Give the command, or every command below it, one option a setting."""
    for child in getattr(command, "commands", {}).values():
        add_setting_flags(child)
    if not hasattr(command, "commands"):
        taken = {flag for parameter in command.params for flag in parameter.opts}
        added = [*_setting_options(), *_aws_options()]
        command.params += [option for option in added if not taken.intersection(option.opts)]


def _setting_options() -> list[Any]:
    """One option a setting."""
    return _made({"config": "the settings' file [default: cdc.toml]", **descriptions()}, _PREFIX, _remember, _PANEL)


def _aws_options() -> list[Any]:
    """``--profile``, ``--region`` and ``--endpoint-url``, as the AWS CLI has them."""
    return _made(_AWS, "aws_", _use_aws, "AWS (also AWS_PROFILE, AWS_REGION, AWS_ENDPOINT_URL)")


def _made(descriptions: Mapping[str, str], prefix: str, callback: Callable[..., None], panel: str) -> list[Any]:
    """Options that pass their value to `callback`, made by typer itself from a function that nobody calls."""

    def never_called() -> None: ...

    def option(name: str, text: str) -> Any:
        flag = f"--{name.replace('_', '-')}"
        return typer.Option(flag, help=text, callback=callback, expose_value=False, rich_help_panel=panel)

    def kind_of(name: str) -> Any:
        return list[str] | None if name in many else str | None

    kind, many = inspect.Parameter.KEYWORD_ONLY, list_settings()
    never_called.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(
                prefix + name, kind, default=None, annotation=Annotated[kind_of(name), option(name, text)]
            )
            for name, text in descriptions.items()
        ]
    )
    probe = typer.Typer()
    probe.command()(never_called)
    command: Any = get_command(probe)
    return [parameter for parameter in command.params if str(parameter.name).startswith(prefix)]


def _remember(context: typer.Context, parameter: typer.CallbackParam, given: str | list[str] | None) -> None:
    name = str(parameter.name).removeprefix(_PREFIX)
    value = (",".join(given) if given else None) if isinstance(given, list) else given
    context.find_root().meta.setdefault(_FLAGS, {})[name] = value


def _use_aws(parameter: typer.CallbackParam, value: str | None) -> None:
    """The standard variables, so that boto3, the KCL and every process below see the same."""
    if value is None:
        return
    name = str(parameter.name).removeprefix("aws_")
    for variable in _AWS_VARIABLES[name]:
        os.environ[variable] = value
    if name == "profile":  # keys in the environment would win over it; with the AWS CLI the flag wins
        for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
            os.environ.pop(variable, None)
