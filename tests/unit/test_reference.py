"""Every command and flag is documented, and docs/commands.md is up to date."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cdcctl.main import build
from cdcctl.reference import page

DOCS = Path(__file__).parents[2] / "docs"


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    children = getattr(command, "commands", None)
    if children is None:
        yield " ".join(path), command
        return
    for name in command.list_commands(None):
        yield from leaves(children[name], (*path, name))


def test_the_page_is_up_to_date() -> None:
    assert (DOCS / "commands.md").read_text() == page(build()), "fix: python -m cdcctl.reference > docs/commands.md"


def test_every_command_flag_and_argument_has_a_help_text() -> None:
    undocumented = [
        f"{path} {parameter.name}"
        for path, command in leaves(build())
        for parameter in command.params
        if not (parameter.help or "").strip()
    ]
    assert undocumented == []
    assert [path for path, command in leaves(build()) if "Example:" not in (command.help or "")] == []


def test_no_help_text_spells_out_a_default() -> None:
    """On a terminal rich removes ``[default: …]`` from a help text: use `show_default`, which Typer prints."""
    spelled_out = [
        f"{path} {parameter.name}"
        for path, command in leaves(build())
        for parameter in command.params
        if "[default" in (parameter.help or "")
    ]
    assert spelled_out == []


def test_the_page_names_every_command_and_every_flag() -> None:
    text = page(build())
    for path, command in leaves(build()):
        section = text.split(f"\n## cdcctl {path}\n")[1].split("\n## ")[0]
        for parameter in command.params:
            shared = text.split("\n## cdcctl ")[0]
            name = parameter.opts[0] if parameter.param_type_name == "option" else parameter.name.upper()
            assert name in section + shared or parameter.metavar in section, f"{path} {name}"


def test_each_command_is_described_in_the_docs_besides_the_reference() -> None:
    pages = [*DOCS.glob("*.md"), DOCS.parent / "README.md"]
    prose = "".join(path.read_text() for path in pages if path.name != "commands.md")
    missing = [path for path, _ in leaves(build()) if f"cdcctl {path}" not in prose]
    assert missing == []


def test_every_test_named_in_the_docs_exists() -> None:
    """The docs refer to tests by name, for example in the threat model; these tests must exist."""
    named = [found for page in DOCS.glob("*.md") for found in re.findall(r"`(tests/\S+\.py)::(\w+)`", page.read_text())]
    assert len(named) > 20
    missing = [
        f"{path}::{name}" for path, name in named
        if not (DOCS.parent / path).exists() or f"def {name}(" not in (DOCS.parent / path).read_text()
    ]  # fmt: skip
    assert missing == []
