"""Conditions on a row's values, as `filter` in ``cdc.toml`` states them; pure.

A column's condition is one value (``status = "paid"``), a list of them (any will do), or a table of comparisons that
must all hold (``total = {ge = 100, lt = 1000}``). As in SQL, NULL satisfies nothing but ``{null = true}``; a column
that is not known (a partial document) satisfies nothing at all.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from cdckit.change import Value

_COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq, "ne": operator.ne, "lt": operator.lt, "le": operator.le, "gt": operator.gt, "ge": operator.ge,
}  # fmt: skip
COMPARISONS = (*_COMPARISONS, "in", "not_in", "null")

Condition = str | int | float | bool | list[Any] | dict[str, Any]


def fault(condition: object) -> str:
    """What is wrong with a condition, or nothing."""
    if isinstance(condition, Mapping):
        if unknown := sorted(set(condition) - set(COMPARISONS)):
            return f"the unknown comparison {unknown[0]!r}; known: {', '.join(COMPARISONS)}"
        lists = [name for name in ("in", "not_in") if not isinstance(condition.get(name, []), list)]
        return f"{lists[0]} without a list" if lists else "" if condition else "no comparison"
    return "" if isinstance(condition, str | int | float | list) else f"the value {condition!r}"


def holds(conditions: Mapping[str, Condition], values: Mapping[str, Value]) -> bool:
    """Whether a row's values satisfy every column's condition."""
    return all(name in values and _satisfied(values[name], wanted) for name, wanted in conditions.items())


def _satisfied(value: Value, wanted: Condition) -> bool:
    if not isinstance(wanted, dict):
        return value is not None and any(
            _same(value, one) for one in (wanted if isinstance(wanted, list) else [wanted])
        )
    return all(_compared(value, name, operand) for name, operand in wanted.items())


def _compared(value: Value, name: str, operand: Any) -> bool:
    if name == "null":
        return (value is None) is bool(operand)
    if value is None:
        return False
    if name in ("in", "not_in"):
        return any(_same(value, one) for one in operand) == (name == "in")
    one, other = _pair(value, operand)
    try:
        return bool(_COMPARISONS[name](one, other))
    except TypeError:
        return name == "ne"


def _same(value: Value, other: Any) -> bool:
    one, wanted = _pair(value, other)
    return bool(one == wanted)


def _pair(value: Value, other: Any) -> tuple[Any, Any]:
    """Both as numbers where both are, so that 10 is less than 9.5e1 and ``1.0`` equals ``1``; else as they are."""
    if isinstance(value, bool) or isinstance(other, bool):
        return (value, other) if type(value) is type(other) else (str(value), None)
    if isinstance(value, int | Decimal) or isinstance(other, int | float):
        try:
            return Decimal(str(value)), Decimal(str(other))
        except InvalidOperation:
            return str(value), str(other)
    return value, other
