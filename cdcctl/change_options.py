"""The flags that select changes, shared by `tail` and `replay`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import typer

from cdckit.change import Op
from cdckit.errors import UsageError
from consumers.filters.expression import parse
from consumers.filters.selection import Selection
from consumers.stream.points import Point

Tables = Annotated[
    list[str] | None, typer.Option("--table", help="Only tables matching this glob (schema.name or name); repeatable.")
]
Ops = Annotated[
    list[str] | None, typer.Option("--op", help="Only these operations: insert, update, delete, truncate (I U D T).")
]
Keys = Annotated[list[str] | None, typer.Option("--key", help="Only rows with this key: 42, or a,b; repeatable.")]
Where = Annotated[
    str | None, typer.Option("--where", help="Only rows that satisfy: total > 100 and status in ('new', 'paid').")
]
_OPS = {spelling: op for op in Op for spelling in (op.value.lower(), op.name.lower())}


def selection(
    since: Point,
    until: Point | None = None,
    tables: Iterable[str] | None = None,
    ops: Iterable[str] | None = None,
    keys: Iterable[str] | None = None,
    where: str | None = None,
) -> Selection:
    """Build a Selection from the flags. Raises UsageError."""
    operations = frozenset(_op(name) for text in ops or () for name in text.split(","))
    return Selection(
        since, until, tuple(tables or ()), operations, frozenset(keys or ()), None if where is None else parse(where)
    )


def _op(text: str) -> Op:
    try:
        return _OPS[text.strip().lower()]
    except KeyError:
        raise UsageError(
            f"unknown operation: {text!r}", "use insert, update, delete, truncate, or I, U, D, T"
        ) from None
