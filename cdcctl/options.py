"""Resolves the settings of one command from flags, environment and ``cdc.toml``; defines the option ``-o``.

Every command accepts every setting as a flag: ``--stream``, ``CDC_STREAM`` and ``stream`` are the same setting. The
flags are added to the finished command tree, so no command can omit one or give it another name.
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
_CONFIG = {"config": "path of the settings file"}
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
    """Output format of a result."""

    TABLE = "table"
    JSON = "json"


Output = Annotated[Format, typer.Option("--output", "-o", help="Print a table, or JSON for scripts.")]


def config_path(context: typer.Context) -> Path | None:
    """The settings file named by ``--config`` or ``CDC_CONFIG``; None when neither is set."""
    flags: Mapping[str, str | None] = context.find_root().meta.get(_FLAGS, {})
    named = flags.get("config") or os.environ.get("CDC_CONFIG")
    return Path(named) if named else None


def resolve_settings(flags: Mapping[str, str | None], file: Path | None) -> tuple[Settings, list[SettingValue]]:
    """Resolve all settings. Reads `file`, or ``cdc.toml`` in the working folder when it exists. Raises UsageError."""
    path = file or Path(FILE_NAME)
    try:
        text = path.read_text(encoding="utf-8") if file or path.exists() else None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}", "set --config to a readable file") from error
    return resolve(flags, os.environ, text, str(path))


def config_environment(context: typer.Context) -> dict[str, str]:
    """``CDC_CONFIG`` for child processes, so that they read the file named by ``--config``; empty without the flag."""
    flags: Mapping[str, str | None] = context.find_root().meta.get(_FLAGS, {})
    return {"CDC_CONFIG": str(Path(named).absolute())} if (named := flags.get("config")) else {}


def current_settings(context: typer.Context) -> Settings:
    """The settings of this call."""
    return origins(context)[0]


def origins(context: typer.Context) -> tuple[Settings, list[SettingValue]]:
    """The settings of this call, and the origin of each value."""
    flags: Mapping[str, str | None] = context.find_root().meta.get(_FLAGS, {})
    return resolve_settings(flags, config_path(context))


def origins_without_file(context: typer.Context) -> list[SettingValue]:
    """The settings given by flags and environment; no file is read."""
    flags: Mapping[str, str | None] = context.find_root().meta.get(_FLAGS, {})
    return resolve(flags, os.environ)[1]


def add_setting_flags(command: Any) -> None:
    """Add one option per setting to the command, or to every command below a group."""
    for child in getattr(command, "commands", {}).values():
        add_setting_flags(child)
    if not hasattr(command, "commands"):
        taken = {flag for parameter in command.params for flag in parameter.opts}
        added = [*_setting_options(), *_aws_options()]
        command.params += [option for option in added if not taken.intersection(option.opts)]


def _setting_options() -> list[Any]:
    return _build_options({**_CONFIG, **descriptions()}, _PREFIX, _store_flag, _PANEL)


def _aws_options() -> list[Any]:
    """``--profile``, ``--region`` and ``--endpoint-url``, named as in the AWS CLI."""
    return _build_options(_AWS, "aws_", _export_aws_variables, "AWS (also AWS_PROFILE, AWS_REGION, AWS_ENDPOINT_URL)")


def _build_options(
    descriptions: Mapping[str, str], prefix: str, callback: Callable[..., None], panel: str
) -> list[Any]:
    """Options that pass their value to `callback`. Typer builds them from the signature of a placeholder function."""

    def placeholder() -> None: ...

    def option(name: str, text: str) -> Any:
        flag = f"--{name.replace('_', '-')}"
        default = FILE_NAME if name in _CONFIG else False
        return typer.Option(
            flag, help=text, callback=callback, expose_value=False, rich_help_panel=panel, show_default=default
        )

    def type_of(name: str) -> Any:
        return list[str] | None if name in lists else str | None

    keyword_only, lists = inspect.Parameter.KEYWORD_ONLY, list_settings()
    placeholder.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(
                prefix + name, keyword_only, default=None, annotation=Annotated[type_of(name), option(name, text)]
            )
            for name, text in descriptions.items()
        ]
    )
    app = typer.Typer()
    app.command()(placeholder)
    command: Any = get_command(app)
    return [parameter for parameter in command.params if str(parameter.name).startswith(prefix)]


def _store_flag(context: typer.Context, parameter: typer.CallbackParam, value: str | list[str] | None) -> None:
    name = str(parameter.name).removeprefix(_PREFIX)
    text = (",".join(value) if value else None) if isinstance(value, list) else value
    context.find_root().meta.setdefault(_FLAGS, {})[name] = text


def _export_aws_variables(parameter: typer.CallbackParam, value: str | None) -> None:
    """Set the standard AWS variables, so that boto3, the KCL and all child processes use the same values."""
    if value is None:
        return
    name = str(parameter.name).removeprefix("aws_")
    for variable in _AWS_VARIABLES[name]:
        os.environ[variable] = value
    if name == "profile":  # keys in the environment would take precedence; in the AWS CLI the flag does
        for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
            os.environ.pop(variable, None)
