"""A condition on a change's row, in a small part of SQL: ``total > 100 and status in ('new', 'paid')``; pure.

    condition   or, and, not, ( )
    test        = == != <> < <= > >=   [not] in (…)   [not] like 'a%_'   is [not] null   or a boolean column alone
    value       100, -1.5, 'it''s', true, false, null, a column, "Column", old.column, new.column

A column is the row's new value, of a delete the old one; ``old.`` asks for the value before (the stream has it under
REPLICA IDENTITY FULL; otherwise only the key's). What the change does not carry is NULL, and as in SQL a comparison
with NULL is neither true nor false. Numbers compare by value, all else as PostgreSQL's text; never is code evaluated.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from cdckit.change import Change
from cdckit.errors import UsageError
from consumers.filters.logic import (
    Getter,
    Test,
    column,
    compare,
    constant,
    every,
    is_null,
    is_true,
    like,
    negated,
    some,
)

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<number>-?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)(?![\w.])
    | (?P<string>'(?:[^']|'')*')
    | (?P<name>(?:(?:old|new)\s*\.\s*)?(?:"(?:[^"]|"")+"|[^\W\d][\w$]*))
    | (?P<sign><>|!=|<=|>=|==|=|<|>|\(|\)|,)
    )""",
    re.VERBOSE | re.IGNORECASE,
)
_WORDS = {"and", "or", "not", "in", "like", "is", "null", "true", "false"}
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq, "==": operator.eq, "!=": operator.ne, "<>": operator.ne,
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_EXAMPLE = "like: total > 100 and (status in ('new', 'paid') or note is null) and not name like 'test%'"


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition that was read; `text` is what it was read from, `columns` those that it names."""

    text: str
    test: Test
    columns: frozenset[str] = frozenset()

    def holds(self, change: Change) -> bool:
        """Whether it is true of the change; unknown is not true."""
        return self.test(change) is True


def parse(text: str) -> Condition:
    """Read a condition. Raises UsageError that names the place of the mistake."""
    parser = _Parser(text, _tokens(text))
    try:
        test = parser.disjunction()
    except RecursionError:
        raise UsageError("a condition with too many parentheses", _EXAMPLE) from None
    if parser.kind != "end":
        parser.fail("'and', 'or' or the end is expected")
    return Condition(text, test, frozenset(parser.columns))


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int


def _tokens(text: str) -> list[_Token]:
    found, at = [], 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if match is None:
            at += len(text[at:]) - len(text[at:].lstrip())
            raise _mistake(text, at, "this cannot be read")
        kind = str(match.lastgroup)
        word = match[kind].lower()
        found.append(_Token(word if word in _WORDS else kind, match[kind], match.start(kind)))
        at = match.end()
    return [*found, _Token("end", "", len(text))]


def _mistake(text: str, at: int, why: str) -> UsageError:
    shown = f" ({text[at:][:12]!r})" if text[at:].strip() else ""
    return UsageError(f"no condition: {text!r}: at {at + 1}{shown} {why}", _EXAMPLE)


class _Parser:
    """Recursive descent over the tokens."""

    def __init__(self, text: str, tokens: list[_Token]) -> None:
        self._text, self._tokens, self._next = text, tokens, 0
        self.columns: set[str] = set()

    @property
    def kind(self) -> str:
        return self._tokens[self._next].kind

    def fail(self, why: str) -> None:
        raise _mistake(self._text, self._tokens[self._next].at, why)

    def disjunction(self) -> Test:
        tests = [self._conjunction()]
        while self._took("or"):
            tests.append(self._conjunction())
        return tests[0] if len(tests) == 1 else some(tests)

    def _conjunction(self) -> Test:
        tests = [self._negation()]
        while self._took("and"):
            tests.append(self._negation())
        return tests[0] if len(tests) == 1 else every(tests)

    def _negation(self) -> Test:
        if self._took("not"):
            return negated(self._negation())
        if self._took("("):
            inside = self.disjunction()
            self._need(")")
            return inside
        return self._test()

    def _test(self) -> Test:
        left = self._value()
        sign = self._tokens[self._next].text
        if self.kind == "sign" and sign in _COMPARE:
            self._next += 1
            return compare(_COMPARE[sign], left, self._value())
        if self._took("is"):
            inverted = self._took("not")
            self._need("null")
            return negated(is_null(left)) if inverted else is_null(left)
        inverted = self._took("not")
        if self._took("in"):
            found = some([compare(operator.eq, left, value) for value in self._list()])
        elif self._took("like"):
            found = like(left, self._pattern())
        elif inverted:
            self.fail("'in' or 'like' is expected")
        else:
            return is_true(left)
        return negated(found) if inverted else found

    def _list(self) -> list[Getter]:
        self._need("(")
        values = [self._value()]
        while self._took(","):
            values.append(self._value())
        self._need(")")
        return values

    def _pattern(self) -> re.Pattern[str]:
        if self.kind != "string":
            self.fail("a pattern is expected, like 'abc%'")
        parts = re.split(r"([%_])", _unquoted(self._take().text))
        wild = {"%": ".*", "_": "."}
        return re.compile("".join(wild.get(part, re.escape(part)) for part in parts), re.DOTALL)

    def _value(self) -> Getter:
        if self.kind not in ("number", "string", "name", "true", "false", "null"):
            self.fail("a column or a value is expected")
        token = self._take()
        if token.kind == "name":
            return self._column(token.text)
        if token.kind == "number":
            return constant(Decimal(token.text))
        return constant({"true": True, "false": False, "null": None}.get(token.kind, _unquoted(token.text)))

    def _column(self, text: str) -> Getter:
        side, dot, rest = (text, "", "") if text.startswith('"') else text.partition(".")
        name = _unquoted(rest.strip()) if dot else _unquoted(text)
        self.columns.add(name)
        return column(name, side.strip().lower() if dot else "")

    def _take(self) -> _Token:
        self._next += 1
        return self._tokens[self._next - 1]

    def _took(self, what: str) -> bool:
        token = self._tokens[self._next]
        found = token.kind == what or (token.kind == "sign" and token.text == what)
        self._next += found
        return found

    def _need(self, what: str) -> None:
        if not self._took(what):
            self.fail(f"'{what}' is expected")


def _unquoted(text: str) -> str:
    quote = text[0]
    return text[1:-1].replace(quote * 2, quote) if quote in "'\"" else text.lower()
