"""From a row to what is indexed of it: which tables, which columns in which field, filters, a transform; pure.

An index carries the mapping that it was made with, and every writer uses that one: a changed ``cdc.toml`` never mixes
two mappings in one index (`cdcctl search reindex` makes the next index with the new one).
"""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

import msgspec

from cdckit.change import Table, Value
from cdckit.envelope import MESSAGES
from cdckit.errors import PoisonChange, UsageError
from cdckit.runtime.user_code import load_object
from consumers.search.column_filter import ColumnCondition, compile_filter

FIELDS = ("title", "body", "tags")
MARK, UNMARK = "\ufdd0", "\ufdd1"
"""Stand around a word that was found until the text is escaped: no characters of any text, by Unicode's word."""

_BLANKS = dict.fromkeys(map(ord, ("\0", MARK, UNMARK)), " ")


class Row(msgspec.Struct, frozen=True, gc=False):
    """What a transform is given: one row as it is after the change, excluded columns left out."""

    source: str
    table: Table
    key: str
    values: Mapping[str, Value]


Transform = Callable[[Row], Mapping[str, Value] | None]
"""Returns the columns to index and to show instead of the row's own, or None to leave the row out. Pure."""


class Indexed(msgspec.Struct, frozen=True, gc=False):
    """What one row puts into the index: the text of each field, and the columns shown and counted as facets."""

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
    """The whole mapping; comparable, and as JSON part of the index. Patterns are globs over ``schema.table``."""

    tokenizer: str = "unicode61"
    table: list[str] = []
    exclude_table: list[str] = []
    mapping: dict[str, Rule] = {}

    def encode(self) -> str:
        """As canonical JSON."""
        return msgspec.json.encode(self, order="deterministic").decode()

    @classmethod
    def decode(cls, text: str) -> IndexMapping:
        """Undo `encode`. Raises msgspec.DecodeError when another version wrote it."""
        return msgspec.json.decode(text, type=cls)

    def rule(self, table: Table) -> Rule | None:
        """The table's rule (an exact name before a glob, then in the file's order); None: it is not indexed.

        Messages (`pg_logical_emit_message`) are no rows of any table.
        """
        if table.schema == MESSAGES:
            return None
        name = f"{table.schema}.{table.name}"
        if (self.table and not _any(name, self.table)) or _any(name, self.exclude_table):
            return None
        exact = self.mapping.get(name)
        return exact or next((rule for glob, rule in self.mapping.items() if fnmatchcase(name, glob)), Rule())


class Mapper:
    """A mapping ready for use: rules found once a table, transforms imported once."""

    def __init__(self, mapping: IndexMapping) -> None:
        """Nothing is imported before its table is seen."""
        self.mapping = mapping
        self._tables: dict[Table, TableMapper | None] = {}

    def table(self, table: Table) -> TableMapper | None:
        """The table's part of the mapping; None when its rows are not kept at all. Raises UsageError."""
        if table not in self._tables:
            rule = self.mapping.rule(table)
            self._tables[table] = None if rule is None else TableMapper(rule)
        return self._tables[table]


class TableMapper:
    """One table's rule, prepared."""

    def __init__(self, rule: Rule) -> None:
        """Import the transform. Raises UsageError."""
        self.facets: Sequence[str] = rule.facets
        self._rule = rule
        self._passes = compile_filter(rule.filter)
        self.excluded = frozenset(rule.exclude)
        self._transform = load_transform(rule.transform) if rule.transform else None
        self._elsewhere = frozenset((*rule.title, *rule.tags))

    def kept(self, values: Mapping[str, Value]) -> Mapping[str, Value]:
        """The values without the excluded columns, which the index never sees."""
        excluded = self.excluded
        return {name: value for name, value in values.items() if name not in excluded} if excluded else values

    def index(self, row: Row) -> Indexed | None:
        """What the row puts into the index; None when the filter or the transform leaves it out.

        Raises PoisonChange when the transform fails.
        """
        if self._rule.filter and not self._passes(row.values):
            return None
        shown = row.values if self._transform is None else _transformed(self._transform, row)
        return None if shown is None else self._indexed(shown)

    def _indexed(self, shown: Mapping[str, Value]) -> Indexed:
        rule = self._rule
        if rule.body is not None:
            body = text_of(map(shown.get, rule.body))
        elif self._elsewhere:
            body = text_of(value for name, value in shown.items() if name not in self._elsewhere)
        else:
            body = text_of(shown.values())
        title = text_of(map(shown.get, rule.title)) if rule.title else ""
        tags = text_of(map(shown.get, rule.tags)) if rule.tags else ""
        return Indexed(title, body, tags, shown)


def load_transform(path: str) -> Transform:
    """Import ``module:function``. Raises UsageError."""
    try:
        found: Transform = load_object(path)
    except (ImportError, AttributeError, ValueError, SyntaxError) as error:
        raise UsageError(
            f"cannot load the search transform {path!r}: {error}",
            'transform = "module:function" in cdc.toml, importable from where the consumer runs (PYTHONPATH)',
        ) from error
    return found


def text_of(values: Iterable[Value]) -> str:
    """Values as text, one a line; NULL and booleans say nothing.

    Only in this text, which is searched, not in the stored values: the characters that mark highlights, and NUL, which
    would end it, become spaces.
    """
    text = "\n".join([str(value) for value in values if value is not None and value is not True and value is not False])
    return text.translate(_BLANKS) if "\0" in text or MARK in text or UNMARK in text else text


def marked(snippet: str) -> str:
    """A snippet that is safe in HTML, the words found in ``<mark>``."""
    return html.escape(snippet).replace(MARK, "<mark>").replace(UNMARK, "</mark>")


def _transformed(transform: Transform, row: Row) -> Mapping[str, Value] | None:
    try:
        return transform(row)
    except Exception as error:
        raise PoisonChange(
            f"the transform failed on {row.table} {row.key}: {type(error).__name__}: {error}",
            "mend the function that `transform` names in cdc.toml, then: cdcctl dlq redrive",
        ) from error


def _any(name: str, globs: Iterable[str]) -> bool:
    return any(fnmatchcase(name, glob) for glob in globs)
