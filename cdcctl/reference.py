"""Every command and flag as one Markdown page, made from the command tree itself (``make docs``)."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

_MARKUP = re.compile(r"(?<!\\)\[/?[a-z ]*\]")
_HEAD = """# cdcctl: every command and flag

Made by `make docs` from the commands themselves. Results go to stdout, the rest to stderr.

| exit status | meaning |
|---|---|
| 0 | well |
| 1 | a difference, a refusal, or a limit that was named is exceeded |
| 2 | wrong use: a flag, setting, time or name |
| 3 | PostgreSQL: unreachable, not prepared, not the server it was |
| 4 | Kinesis or DynamoDB: unreachable, missing, refused |
| 5 | the KCL's side: no Java, an unknown consumer, a live lease |
| 6 | a satellite: missing, damaged |
| 130 | Ctrl-C |
"""


def page(root: Any) -> str:
    """The whole page, for the root of the command tree."""
    commands = list(_walk(root, ()))
    counts = Counter(flag for _, command in commands for flag in _flags(command))
    shared = {flag for flag, count in counts.items() if count > len(commands) / 2}
    settings = "Settings: a flag, `CDC_…` in the environment, or a key of `cdc.toml`."
    lines = [_HEAD, "## Flags of every command", "", settings, "", *_table(commands[0][1], shared, only=True)]
    for path, command in commands:
        lines += ["", f"## cdcctl {' '.join(path)}", "", _usage(path, command), "", _plain(command.help or "").strip()]
        lines += ["", *_table(command, shared, only=False)]
    return "\n".join(lines).rstrip() + "\n"


def _walk(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    children = getattr(command, "commands", None)
    if children is None:
        yield path, command
        return
    for name in command.list_commands(None):
        yield from _walk(children[name], (*path, name))


def _flags(command: Any) -> list[tuple[str, str]]:
    """Flag and meaning: a command may have its own of a setting's name."""
    return [
        (parameter.opts[0], parameter.help or "")
        for parameter in command.params
        if parameter.param_type_name == "option" and not _is_help(parameter)
    ]


def _usage(path: tuple[str, ...], command: Any) -> str:
    arguments = [_argument(parameter) for parameter in command.params if parameter.param_type_name == "argument"]
    return f"    cdcctl {' '.join([*path, *arguments, '[flags]'])}"


def _argument(parameter: Any) -> str:
    name = (parameter.metavar or parameter.name).upper()
    many = "…" if parameter.nargs == -1 else ""
    return f"{name}{many}" if parameter.required else f"[{name}{many}]"


def _table(command: Any, shared: set[tuple[str, str]], *, only: bool) -> list[str]:
    rows = [
        f"| {_names(parameter)} | {_plain(parameter.help or '').replace('|', chr(92) + '|')} |"
        for parameter in command.params
        if ((parameter.opts[0], parameter.help or "") in shared) is only and not _is_help(parameter)
    ]
    return ["| flag or argument | meaning |", "|---|---|", *rows] if rows else []


def _is_help(parameter: Any) -> bool:
    return "--help" in parameter.opts


def _names(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{_argument(parameter)}`"
    return ", ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts])


def _plain(text: str) -> str:
    """Without rich's markup: what is bold there is code here."""
    return _MARKUP.sub(lambda tag: "`" if tag[0] in ("[bold]", "[/]") else "", text).replace("\\[", "[")


def main() -> None:
    """Print the page."""
    from cdcctl.main import build  # noqa: PLC0415 -- the tree imports every command

    sys.stdout.write(page(build()))


if __name__ == "__main__":
    main()
