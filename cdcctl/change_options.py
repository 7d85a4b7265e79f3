"""The flags by which `tail` and `replay` choose changes, and what they mean."""

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
    list[str] | None, typer.Option("--table", help="Only tables that match this glob, schema.name or name; repeatable.")
]
Ops = Annotated[list[str] | None, typer.Option("--op", help="Only these: insert, update, delete, truncate (I U D T).")]
Keys = Annotated[list[str] | None, typer.Option("--key", help="Only rows of this key: 42, or a,b; repeatable.")]
Where = Annotated[
    str | None, typer.Option("--where", help="Only rows that fit: total > 100 and status in ('new', 'paid').")
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
    """What the flags ask for. Raises UsageError."""
    chosen = frozenset(_op(name) for text in ops or () for name in text.split(","))
    return Selection(
        since, until, tuple(tables or ()), chosen, frozenset(keys or ()), None if where is None else parse(where)
    )


def _op(text: str) -> Op:
    try:
        return _OPS[text.strip().lower()]
    except KeyError:
        raise UsageError(f"no operation: {text!r}", "use insert, update, delete, truncate, or I, U, D, T") from None
