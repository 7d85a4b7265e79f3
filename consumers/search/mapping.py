"""Maps a row to what is indexed of it: which tables, which columns in which field, filters, a transform. Pure.

An index stores the mapping with which it was created, and every writer uses that one. So a changed ``cdc.toml`` never
mixes two mappings in one index: `cdcctl search reindex` creates the next index with the new mapping.
"""

from __future__ import annotations

import html
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import msgspec

from cdckit.change import Table, Value
from cdckit.envelope import MESSAGE_SCHEMA
from cdckit.errors import PoisonChange, UsageError
from cdckit.runtime.user_code import load_object
from consumers.search.column_filter import ColumnCondition, compile_filter

FIELDS = ("title", "body", "tags")
MARK_START, MARK_END = "\ufdd0", "\ufdd1"
"""Put around a match until the text is escaped. Unicode reserves these as noncharacters: no text contains them."""

_BLANKS = dict.fromkeys(map(ord, ("\0", MARK_START, MARK_END)), " ")


class MappedRow(msgspec.Struct, frozen=True, gc=False):
    """The argument of a transform: one row after the change, without excluded columns.

    Attributes:
        source: The source's id, such as ``main``.
        table: The row's table.
        key: The text of the row's key, such as ``[42]``.
        values: The row's values by column.

    Example:
        >>> from consumers.search.mapping import MappedRow
        >>> def document(row: MappedRow):
        ...     return None if row.values["status"] == "draft" else {"title": str(row.values["name"]).upper()}
        >>> document(MappedRow("main", Table("public", "products"), "[1]", {"name": "shirt", "status": "new"}))
        {'title': 'SHIRT'}

    """

    source: str
    table: Table
    key: str
    values: Mapping[str, Value]


Transform = Callable[[MappedRow], Mapping[str, Value] | None]
"""A pure function that returns the columns to index and to show, or None to leave the row out."""


class IndexFields(msgspec.Struct, frozen=True, gc=False):
    """What is indexed of one row: the text of each field, and the columns that are shown and counted as facets."""

    title: str
    body: str
    tags: str
    shown: Mapping[str, Value]


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """``[consumers.search.mapping."TABLE"]``: each field's columns. `body` None: all that are in no other field."""

    title: list[str] = []
    body: list[str] | None = None
    tags: list[str] = []
    facets: list[str] = []
    exclude: list[str] = []
    filter: dict[str, ColumnCondition] = {}
    transform: str = ""


class IndexMapping(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The whole mapping, which is also stored in the index as JSON. Patterns are globs over ``schema.table``."""

    tokenizer: str = "unicode61"
    table: list[str] = []
    exclude_table: list[str] = []
    mapping: dict[str, Rule] = {}

    def encode(self) -> str:
        """The mapping as canonical JSON."""
        return msgspec.json.encode(self, order="deterministic").decode()

    @classmethod
    def decode(cls, text: str) -> IndexMapping:
        """The inverse of `encode`. Raises msgspec.DecodeError when another version wrote the text."""
        return msgspec.json.decode(text, type=cls)

    def rule(self, table: Table) -> Rule | None:
        """The rule of a table: by its exact name, else the first matching glob. None: the table is not indexed.

        Messages (`pg_logical_emit_message`) are not rows of a table.
        """
        if table.schema == MESSAGE_SCHEMA:
            return None
        name = f"{table.schema}.{table.name}"
        if (self.table and not _any(name, self.table)) or _any(name, self.exclude_table):
            return None
        exact = self.mapping.get(name)
        return exact or next((rule for glob, rule in self.mapping.items() if fnmatchcase(name, glob)), Rule())


class Mapper:
    """A mapping prepared for use: one rule per table, each transform imported once."""

    def __init__(self, mapping: IndexMapping) -> None:
        """Import nothing yet: a transform is imported with the first row of its table."""
        self.mapping = mapping
        self._tables: dict[Table, TableMapper | None] = {}

    def table(self, table: Table) -> TableMapper | None:
        """The mapping of one table; None when its rows are not stored. Raises UsageError."""
        if table not in self._tables:
            rule = self.mapping.rule(table)
            self._tables[table] = None if rule is None else TableMapper(rule)
        return self._tables[table]


class TableMapper:
    """The prepared rule of one table."""

    def __init__(self, rule: Rule) -> None:
        """Import the transform. Raises UsageError."""
        self.facets: Sequence[str] = rule.facets
        self._rule = rule
        self._passes = compile_filter(rule.filter)
        self.excluded = frozenset(rule.exclude)
        self._transform = load_transform(rule.transform) if rule.transform else None
        self._elsewhere = frozenset((*rule.title, *rule.tags))

    def without_excluded(self, values: Mapping[str, Value]) -> Mapping[str, Value]:
        """The values without the excluded columns, which are never stored in the index."""
        excluded = self.excluded
        return {name: value for name, value in values.items() if name not in excluded} if excluded else values

    def index(self, row: MappedRow) -> IndexFields | None:
        """What is indexed of the row; None when the filter or the transform hides it.

        Raises PoisonChange when the transform fails.
        """
        if self._rule.filter and not self._passes(row.values):
            return None
        shown = row.values if self._transform is None else _transformed(self._transform, row)
        return None if shown is None else self._indexed(shown)

    def _indexed(self, shown: Mapping[str, Value]) -> IndexFields:
        rule = self._rule
        if rule.body is not None:
            body = to_text(map(shown.get, rule.body))
        elif self._elsewhere:
            body = to_text(value for name, value in shown.items() if name not in self._elsewhere)
        else:
            body = to_text(shown.values())
        title = to_text(map(shown.get, rule.title)) if rule.title else ""
        tags = to_text(map(shown.get, rule.tags)) if rule.tags else ""
        return IndexFields(title, body, tags, shown)


def load_transform(path: str) -> Transform:
    """Import a transform, ``module:function``. Raises UsageError."""
    try:
        found: Transform = load_object(path)
    except (ImportError, AttributeError, ValueError, SyntaxError) as error:
        raise UsageError(
            f"cannot load the search transform {path!r}: {error}",
            'write transform = "module:function"; the module must be importable where the consumer runs (PYTHONPATH)',
        ) from error
    return found


def to_text(values: Iterable[Value]) -> str:
    """The values as searchable text, one per line; NULL and booleans are left out.

    The characters that mark matches, and NUL, which would end the text, become spaces. This changes only the searched
    text, not the stored values.
    """
    text = "\n".join([str(value) for value in values if value is not None and value is not True and value is not False])
    return text.translate(_BLANKS) if "\0" in text or MARK_START in text or MARK_END in text else text


def highlight_html(snippet: str) -> str:
    """The snippet as safe HTML, with the matches in ``<mark>``."""
    return html.escape(snippet).replace(MARK_START, "<mark>").replace(MARK_END, "</mark>")


if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        # a user's transform may import the old name: it works for one release
        if name != "Row":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        warnings.warn(f"{__name__}.Row is now called MappedRow", FutureWarning, stacklevel=2)
        return MappedRow


def _transformed(transform: Transform, row: MappedRow) -> Mapping[str, Value] | None:
    try:
        return transform(row)
    except Exception as error:
        raise PoisonChange(
            f"the transform failed on {row.table} {row.key}: {type(error).__name__}: {error}",
            "fix the function that `transform` names in cdc.toml, then: cdcctl dlq redrive",
        ) from error


def _any(name: str, globs: Iterable[str]) -> bool:
    return any(fnmatchcase(name, glob) for glob in globs)
