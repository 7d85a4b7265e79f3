"""Generates the package of `cdcctl consumer new NAME`: a sink, its test, its properties and a README."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

from cdckit.errors import UsageError

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def write_package(name: str, folder: Path) -> list[Path]:
    """Write the package of a sink named `name` (``slack-alerts``) into `folder`; returns the files.

    Raises UsageError for an invalid name, and when the folder is not empty: nothing is overwritten.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is not a valid consumer name", "use lower-case words joined by '-', like slack-alerts"
        )
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} exists and is not empty", "use another folder with --into")
    module = name.replace("-", "_")
    words = {"@NAME@": name, "@MODULE@": module, "@CLASS@": "".join(map(str.capitalize, name.split("-"))) + "Sink"}
    return [
        _write(source, folder / target.format(module=module, name=name), words) for source, target in _FILES.items()
    ]


_FILES = {
    "pyproject.toml.txt": "pyproject.toml",
    "readme.md.txt": "README.md",
    "sink.py.txt": "{module}.py",
    "test_sink.py.txt": "test_{module}.py",
    "consumer.properties.txt": "{name}.properties",
}


def _write(source: str, target: Path, words: dict[str, str]) -> Path:
    text = (files(__name__) / source).read_text(encoding="utf-8")
    for word, value in words.items():
        text = text.replace(word, value)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
    return target
