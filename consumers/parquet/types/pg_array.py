"""Parses and renders PostgreSQL's text of a one-dimensional array."""

from __future__ import annotations

import re
from collections.abc import Sequence

_ELEMENT = re.compile(r'"((?:[^"\\]|\\.)*)"|([^,{}"\\]+)', re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_NEEDS_QUOTES = re.compile(r'[\s{},"\\]|^$|^null$', re.IGNORECASE)


def parse(text: str, delimiter: str = ",") -> list[str | None] | None:
    """The text of each element, None for NULL. Returns None for an array of other dimensions or bounds."""
    if not (text.startswith("{") and text.endswith("}")):
        return None
    body = text[1:-1]
    if not body:
        return []
    return _elements(body, delimiter)


def _elements(body: str, delimiter: str) -> list[str | None] | None:
    found: list[str | None] = []
    at = 0
    while match := _ELEMENT.match(body, at):
        quoted, bare = match[1], match[2]
        found.append(_ESCAPED.sub(r"\1", quoted) if bare is None else None if bare == "NULL" else bare)
        at = match.end() + 1
        if match.end() == len(body):
            return found
        if body[match.end()] != delimiter:
            return None
    return None


def render(elements: Sequence[str | None]) -> str:
    """The text that PostgreSQL writes for a one-dimensional array of these elements."""
    return "{" + ",".join(_quoted(element) for element in elements) + "}"


def _quoted(element: str | None) -> str:
    if element is None:
        return "NULL"
    if not _NEEDS_QUOTES.search(element):
        return element
    return '"' + element.replace("\\", "\\\\").replace('"', '\\"') + '"'
