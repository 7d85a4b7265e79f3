"""Parses a condition on a change's row, in a small part of SQL: ``total > 100 and status in ('new', 'paid')``; pure.

    condition   or, and, not, ( )
    test        = == != <> < <= > >=   [not] in (…)   [not] like 'a%_'   is [not] null   or a boolean column alone
    value       100, -1.5, 'it''s', true, false, null, a column, "Column", old.column, new.column

A column is the row's new value, of a delete the old one; ``old.`` is the value before the change (the stream has it
under REPLICA IDENTITY FULL; otherwise only the key's). What the change does not carry is NULL, and as in SQL a
comparison with NULL is neither true nor false. Numbers compare by value, everything else as PostgreSQL's text. No code
is evaluated.
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
from cdckit.predicates import Getter, Predicate, all_of, any_of, compare, constant, is_null, is_true, like, negate
from consumers.filters.change_columns import column

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<number>-?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)(?![\w.])
    | (?P<string>'(?:[^']|'')*')
    | (?P<name>(?:(?:old|new)\s*\.\s*)?(?:"(?:[^"]|"")+"|[^\W\d][\w$]*))
    | (?P<sign><>|!=|<=|>=|==|=|<|>|\(|\)|,)
    )""",
    re.VERBOSE | re.IGNORECASE,
)
_KEYWORDS = {"and", "or", "not", "in", "like", "is", "null", "true", "false"}
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq, "==": operator.eq, "!=": operator.ne, "<>": operator.ne,
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_EXAMPLE = "example: total > 100 and (status in ('new', 'paid') or note is null) and not name like 'test%'"

ChangePredicate = Predicate[Change]
ChangeGetter = Getter[Change]


@dataclass(frozen=True, slots=True)
class Condition:
    """A parsed condition. `text` is its source, `columns` are the columns that it names."""

    text: str
    predicate: ChangePredicate
    columns: frozenset[str] = frozenset()

    def holds(self, change: Change) -> bool:
        """Whether the condition is true of the change; unknown counts as not true."""
        return self.predicate(change) is True


def parse(text: str) -> Condition:
    """Parse a condition. Raises UsageError with the position of the mistake."""
    parser = _Parser(text, _tokenize(text))
    try:
        predicate = parser.disjunction()
    except RecursionError:
        raise UsageError("a condition with too many parentheses", _EXAMPLE) from None
    if parser.kind != "end":
        parser.fail("'and', 'or' or the end is expected")
    return Condition(text, predicate, frozenset(parser.columns))


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    offset: int


def _tokenize(text: str) -> list[_Token]:
    tokens, offset = [], 0
    while text[offset:].strip():
        match = _TOKEN.match(text, offset)
        if match is None:
            offset += len(text[offset:]) - len(text[offset:].lstrip())
            raise _syntax_error(text, offset, "this cannot be read")
        kind = str(match.lastgroup)
        word = match[kind].lower()
        tokens.append(_Token(word if word in _KEYWORDS else kind, match[kind], match.start(kind)))
        offset = match.end()
    return [*tokens, _Token("end", "", len(text))]


def _syntax_error(text: str, offset: int, reason: str) -> UsageError:
    excerpt = f" ({text[offset:][:12]!r})" if text[offset:].strip() else ""
    return UsageError(f"not a condition: {text!r}: at {offset + 1}{excerpt} {reason}", _EXAMPLE)


class _Parser:
    """A recursive-descent parser over the tokens."""

    def __init__(self, text: str, tokens: list[_Token]) -> None:
        self._text, self._tokens, self._next = text, tokens, 0
        self.columns: set[str] = set()

    @property
    def kind(self) -> str:
        return self._tokens[self._next].kind

    def fail(self, reason: str) -> None:
        raise _syntax_error(self._text, self._tokens[self._next].offset, reason)

    def disjunction(self) -> ChangePredicate:
        predicates = [self._conjunction()]
        while self._accept("or"):
            predicates.append(self._conjunction())
        return predicates[0] if len(predicates) == 1 else any_of(predicates)

    def _conjunction(self) -> ChangePredicate:
        predicates = [self._negation()]
        while self._accept("and"):
            predicates.append(self._negation())
        return predicates[0] if len(predicates) == 1 else all_of(predicates)

    def _negation(self) -> ChangePredicate:
        if self._accept("not"):
            return negate(self._negation())
        if self._accept("("):
            inner = self.disjunction()
            self._expect(")")
            return inner
        return self._test()

    def _test(self) -> ChangePredicate:
        left = self._value()
        sign = self._tokens[self._next].text
        if self.kind == "sign" and sign in _OPERATORS:
            self._next += 1
            return compare(_OPERATORS[sign], left, self._value())
        if self._accept("is"):
            inverted = self._accept("not")
            self._expect("null")
            return negate(is_null(left)) if inverted else is_null(left)
        inverted = self._accept("not")
        if self._accept("in"):
            predicate = any_of([compare(operator.eq, left, value) for value in self._list()])
        elif self._accept("like"):
            predicate = like(left, self._pattern())
        elif inverted:
            self.fail("'in' or 'like' is expected")
        else:
            return is_true(left)
        return negate(predicate) if inverted else predicate

    def _list(self) -> list[ChangeGetter]:
        self._expect("(")
        values = [self._value()]
        while self._accept(","):
            values.append(self._value())
        self._expect(")")
        return values

    def _pattern(self) -> re.Pattern[str]:
        if self.kind != "string":
            self.fail("a pattern is expected, like 'abc%'")
        parts = re.split(r"([%_])", _unquote(self._take().text))
        wildcards = {"%": ".*", "_": "."}
        return re.compile("".join(wildcards.get(part, re.escape(part)) for part in parts), re.DOTALL)

    def _value(self) -> ChangeGetter:
        if self.kind not in ("number", "string", "name", "true", "false", "null"):
            self.fail("a column or a value is expected")
        token = self._take()
        if token.kind == "name":
            return self._column(token.text)
        if token.kind == "number":
            return constant(Decimal(token.text))
        return constant({"true": True, "false": False, "null": None}.get(token.kind, _unquote(token.text)))

    def _column(self, text: str) -> ChangeGetter:
        side, dot, rest = (text, "", "") if text.startswith('"') else text.partition(".")
        name = _unquote(rest.strip()) if dot else _unquote(text)
        self.columns.add(name)
        return column(name, side.strip().lower() if dot else "")

    def _take(self) -> _Token:
        self._next += 1
        return self._tokens[self._next - 1]

    def _accept(self, wanted: str) -> bool:
        token = self._tokens[self._next]
        found = token.kind == wanted or (token.kind == "sign" and token.text == wanted)
        self._next += found
        return found

    def _expect(self, wanted: str) -> None:
        if not self._accept(wanted):
            self.fail(f"'{wanted}' is expected")


def _unquote(text: str) -> str:
    quote = text[0]
    return text[1:-1].replace(quote * 2, quote) if quote in "'\"" else text.lower()
