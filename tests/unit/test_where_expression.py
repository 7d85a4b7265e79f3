"""Conditions on a change's row: their meaning, also against a simple model, and the errors for mistakes."""

import contextlib
from decimal import Decimal
from operator import eq, ge, gt, le, lt, ne
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdckit.change import Value
from cdckit.errors import UsageError
from cdckit.testing import change
from consumers.filters.expression import parse

ROW: dict[str, Value] = {
    "total": Decimal("100.50"), "count": 3, "status": "it's new", "note": None, "paid": True, "Odd Name": "x",
    "code": "42",
}  # fmt: skip
BEFORE: dict[str, Value] = {"id": 7, "status": "draft", "total": Decimal(1)}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("total > 100", True),
        ("total > 100.5", False),
        ("total >= 100.50 and count = 3.0", True),
        ("TOTAL <> 100", True),
        ("status = 'it''s new'", True),
        ("status in ('new', 'it''s new')", True),
        ("status not in ('new', 'paid')", True),
        ("note = 1", False),
        ("not note = 1", False),
        ("note is null and status is not null", True),
        ("missing is null", True),
        ("paid", True),
        ("not paid or count < 3", False),
        ("paid = true", True),
        ("paid = 1", False),
        ("\"Odd Name\" = 'x'", True),
        ("odd = 'x'", False),
        ("status like 'it_s%'", True),
        ("status not like '%new'", False),
        ("code = 42", True),
        ("code = '42'", True),
        ("status > 5", False),
        ("old.status = 'draft' and new.status like '%new'", True),
        ("old.note is null", True),
        ("total > old.total", True),
        ("id = 7", True),
        ("(count = 1 or count = 3) and not (count = 4)", True),
        ("count = 1 or count = 3 and note is not null", False),
        ("-1 < count", True),
    ],
)
def test_what_a_condition_means(text: str, holds: bool) -> None:
    assert parse(text).holds(change("U", 7, ROW, before=BEFORE)) is holds


def test_a_condition_on_a_delete_sees_the_deleted_row() -> None:
    assert parse("status = 'draft'").holds(change("D", 7, before=BEFORE))
    assert not parse("new.status = 'draft'").holds(change("D", 7, before=BEFORE))
    assert not parse("total > 0").holds(change("T"))


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", "at 1"),
        ("total >", "at 8"),
        ("total > 100 and", "at 16"),
        ("total = 1 2", "at 11 ('2')"),
        ("(total = 1", "at 11"),
        ("total ~ 1", "at 7 ('~ 1')"),
        ("status like 5", "at 13"),
        ("status in 'new'", "at 11"),
        ("status not = 1", "at 12"),
        ("total is 5", "at 10"),
        ("__import__('os').system('x')", "at 17"),
        ("name = 'open", "at 8"),
        ("total > 100abc", "at 9"),
        ("(" * 20_000, "parentheses"),
    ],
)
def test_a_mistake_is_named_with_its_place(text: str, place: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse(text)
    assert place in str(raised.value)
    assert raised.value.hint


LITERALS = st.one_of(
    st.integers(-5, 5),
    st.decimals(min_value=-5, max_value=5, places=2),
    st.text(alphabet="ab'%", max_size=3),
    st.booleans(),
    st.none(),
)
COLUMNS = st.sampled_from(["a", "b", "c"])
SIGNS = st.sampled_from(["=", "<>", "<", "<=", ">", ">="])
TREES = st.recursive(
    st.tuples(st.just("compare"), COLUMNS, SIGNS, LITERALS) | st.tuples(st.just("null"), COLUMNS),
    lambda inner: st.tuples(st.sampled_from(["and", "or"]), inner, inner) | st.tuples(st.just("not"), inner),
    max_leaves=8,
)


def to_text(tree: Any) -> str:
    match tree:
        case ("compare", column, sign, literal):
            return f"{column} {sign} {quote(literal)}"
        case ("null", column):
            return f"{column} IS NULL"
        case ("not", inner):
            return f"NOT ({to_text(inner)})"
        case (word, left, right):
            return f"({to_text(left)}) {word} ({to_text(right)})"
    raise AssertionError(tree)


def quote(literal: Value) -> str:
    if isinstance(literal, str):
        return "'" + literal.replace("'", "''") + "'"
    return "null" if literal is None else str(literal).lower()


def evaluate(tree: Any, row: dict[str, Value]) -> bool | None:
    """A simple model of a condition's meaning."""
    match tree:
        case ("compare", column, sign, literal):
            return evaluate_comparison(row[column], sign, literal)
        case ("null", column):
            return row[column] is None
        case ("not", inner):
            found = evaluate(inner, row)
            return None if found is None else not found
        case (word, left, right):
            both = {evaluate(left, row), evaluate(right, row)}
            decisive = word == "or"
            return decisive if decisive in both else None if None in both else not decisive
    raise AssertionError(tree)


def evaluate_comparison(one: Any, sign: str, other: Any) -> bool | None:
    if one is None or other is None or isinstance(one, bool) != isinstance(other, bool):
        return None
    if isinstance(one, str) != isinstance(other, str):
        return None  # none of the texts is a number
    found: bool = {"=": eq, "<>": ne, "<": lt, "<=": le, ">": gt, ">=": ge}[sign](one, other)
    return found


@given(TREES, st.fixed_dictionaries({"a": LITERALS, "b": LITERALS, "c": LITERALS}))
def test_any_condition_agrees_with_the_model(tree: Any, row: dict[str, Value]) -> None:
    assert parse(to_text(tree)).holds(change("I", 1, row)) is (evaluate(tree, row) is True)


@given(st.text(max_size=40))
def test_any_text_is_a_condition_or_a_clear_mistake(text: str) -> None:
    with contextlib.suppress(UsageError):
        parse(text).holds(change("I", 1, ROW))
