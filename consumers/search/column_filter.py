"""Conditions on a row's values, as `filter` in ``cdc.toml`` states them, compiled to predicates; does no I/O.

A column's condition is one value (``status = "paid"``), a list of values of which one must match, or a table of
comparisons that must all hold (``total = {ge = 100, lt = 1000}``). As in SQL, NULL satisfies only ``{null = true}``. A
column that is not known (a partial document) satisfies nothing. Values of different kinds are unequal.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cdckit.change import Value
from cdckit.predicates import (
    Getter,
    Predicate,
    align_numbers_or_text,
    all_of,
    any_of,
    compare,
    constant,
    is_null,
    negate,
)

_OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq, "lt": operator.lt, "le": operator.le, "gt": operator.gt, "ge": operator.ge,
}  # fmt: skip
COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge", "in", "not_in", "null")

ColumnCondition = str | int | float | bool | list[Any] | dict[str, Any]
RowPredicate = Predicate[Mapping[str, Value]]


def find_error(condition: object) -> str:
    """What is wrong with a condition; empty when nothing is."""
    if isinstance(condition, Mapping):
        if unknown := sorted(set(condition) - set(COMPARISONS)):
            return f"the unknown comparison {unknown[0]!r}; known: {', '.join(COMPARISONS)}"
        lists = [name for name in ("in", "not_in") if not isinstance(condition.get(name, []), list)]
        return f"{lists[0]} without a list" if lists else "" if condition else "no comparison"
    return "" if isinstance(condition, str | int | float | list) else f"the value {condition!r}"


def compile_filter(conditions: Mapping[str, ColumnCondition]) -> Callable[[Mapping[str, Value]], bool]:
    """A function that returns whether a row's values satisfy every column's condition."""
    predicate = all_of([_compile_column(column, condition) for column, condition in conditions.items()])
    return lambda values: predicate(values) is True


def _compile_column(column: str, condition: ColumnCondition) -> RowPredicate:
    if isinstance(condition, dict):
        predicates = [_compile_comparison(column, name, operand) for name, operand in condition.items()]
    else:
        predicates = [_is_in(column, condition if isinstance(condition, list) else [condition])]
    return all_of([lambda values: column in values, *predicates])


def _value_of(column: str) -> Getter[Mapping[str, Value]]:
    return lambda values: values.get(column)


def _compile_comparison(column: str, name: str, operand: Any) -> RowPredicate:
    match name:
        case "null":
            return is_null(_value_of(column)) if operand else negate(is_null(_value_of(column)))
        case "in":
            return _is_in(column, operand)
        case "not_in":
            return all_of([negate(is_null(_value_of(column))), negate(_is_in(column, operand))])
        case "ne":
            return negate(_compare(column, "eq", operand))
    return _compare(column, name, operand)


def _is_in(column: str, operands: Sequence[Any]) -> RowPredicate:
    return any_of([_compare(column, "eq", operand) for operand in operands])


def _compare(column: str, name: str, operand: Any) -> RowPredicate:
    return compare(
        _OPERATORS[name],
        _value_of(column),
        constant(operand),
        align=align_numbers_or_text,
        incomparable=False,
    )
