"""Parses the query language, which is the same for every engine; errors say what is wrong and where. Pure.

A query has words, ``"phrases"``, ``prefix*``, AND, OR, NOT (upper case), brackets, ``title:word`` (title, body, tags).
Adjacent words must all occur. A word may contain any other character (``o'brien@x.com``, ``c++``) without escaping.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from cdckit.errors import UsageError
from consumers.search.mapping import FIELDS

MAX_QUERY_CHARACTERS = 4_000
MAX_DEPTH = 32
_TOKEN = re.compile(
    rf'\s*(?:(?P<field>(?:{"|".join(FIELDS)}):(?=\S))|(?P<sign>[()])|"(?P<phrase>[^"]*)"(?P<star>\*?)|(?P<open>")|(?P<word>[^\s()"]+))'
)
_HINT = 'use words, AND, OR, NOT, prefix*, "a phrase", title:word, brackets; put anything else in double quotes'
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Term:
    """One word or phrase; with `prefix` its last word is a prefix. `field` None: any field."""

    text: str
    prefix: bool = False
    field: str | None = None


@dataclass(frozen=True, slots=True)
class And:
    """All parts must match."""

    parts: tuple[Query, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """At least one part must match."""

    parts: tuple[Query, ...]


@dataclass(frozen=True, slots=True)
class AndNot:
    """`wanted` must match, and `unwanted` must not."""

    wanted: Query
    unwanted: Query


Query = Term | And | Or | AndNot


def parse(text: str) -> Query:
    """Parse a query. Raises UsageError that says what is wrong and where."""
    if len(text) > MAX_QUERY_CHARACTERS:
        raise UsageError(f"the query has {len(text)} characters", f"use at most {MAX_QUERY_CHARACTERS}")
    parser = _QueryParser(_CONTROL.sub(" ", text))
    query = parser.alternatives(0)
    if parser.kind:
        raise parser.error("a closing bracket without an opening one")
    return query


class _QueryParser:
    def __init__(self, text: str) -> None:
        self._text, self._end = text, 0
        self._advance()

    def alternatives(self, depth: int) -> Query:
        parts = [self._conjunction(depth)]
        while self._is_word("OR"):
            self._advance()
            parts.append(self._conjunction(depth))
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def _conjunction(self, depth: int) -> Query:
        wanted, unwanted = [self._atom(depth)], list[Query]()
        while self.kind and self.value != ")" and not self._is_word("OR"):
            joined = self._is_word("AND")
            if joined:
                self._advance()
            negated = self._is_word("NOT")
            if negated:
                self._advance()
            (unwanted if negated else wanted).append(self._atom(depth))
        query: Query = wanted[0] if len(wanted) == 1 else And(tuple(wanted))
        for part in unwanted:
            query = AndNot(query, part)
        return query

    def _atom(self, depth: int) -> Query:
        field = None
        if self.kind == "field":
            field = self.value[:-1]
            self._advance()
        if self.value == "(" and self.kind == "sign":
            if field or depth >= MAX_DEPTH:
                raise self.error("a field before a bracket" if field else f"more than {MAX_DEPTH} brackets deep")
            return self._bracket(depth)
        if self.kind not in ("word", "phrase") or (self.kind == "word" and self.value in ("AND", "OR", "NOT")):
            raise self.error(self._expected())
        term = Term(self.value, self._prefix, field)
        if not re.search(r"\w", term.text):
            raise self.error(f"{term.text!r} has no letter or digit")
        self._advance()
        return term

    def _bracket(self, depth: int) -> Query:
        self._advance()
        query = self.alternatives(depth + 1)
        if self.value != ")" or self.kind != "sign":
            raise self.error("a closing bracket is missing")
        self._advance()
        return query

    def _expected(self) -> str:
        if self.kind == "open":
            return "a closing double quote is missing"
        if self._is_word("NOT"):
            return "NOT needs a term before it"
        return f"a word is expected, not {self.value!r}" if self.kind else "a word is expected"

    def _is_word(self, word: str) -> bool:
        return self.kind == "word" and self.value == word

    def _advance(self) -> None:
        self._start = self._end
        found = _TOKEN.match(self._text, self._end)
        if found is None:
            self.kind, self.value, self._prefix = "", "", False
            return
        self._end = found.end()
        self.kind = next(name for name in ("field", "sign", "phrase", "open", "word") if found[name] is not None)
        self.value, self._prefix = found[self.kind], bool(found["star"])
        if self.kind == "word" and self.value.endswith("*"):
            self.value, self._prefix = self.value[:-1], True

    def error(self, what: str) -> UsageError:
        where = "at the end" if not self.kind else f"at character {self._start + 1}"
        return UsageError(f"invalid query: {self._text!r}: {where}, {what}", _HINT)
