"""One change as one line for people, or as one JSON object for scripts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cdcctl.output import escape
from cdckit.change import Change, Op, Value

_STYLES = {Op.INSERT: "green", Op.UPDATE: "yellow", Op.DELETE: "red", Op.TRUNCATE: "bold red"}
_MOST = 40


def pretty(change: Change) -> str:
    """``10:00:00.123 U public.orders 42  status: paid  (actor: alice)`` in rich's markup; the op has a letter too."""
    style = _STYLES[change.op]
    time = change.commit_time.astimezone().strftime("%H:%M:%S.%f")[:-3]
    line = f"[dim]{time}[/] [{style}]{change.op.value}[/] [bold]{escape(str(change.table))}[/] "
    line += f"[cyan]{escape(_key(change.key))}[/]  {escape(_what(change))}"
    return line + (f"  [italic magenta]({escape(_pairs(change.annotation))})[/]" if change.annotation else "")


def as_json(change: Change) -> dict[str, Any]:
    """The change with all it knows; numbers exact, times in ISO 8601."""
    return {
        "op": change.op.value,
        "source": change.source,
        "table": f"{change.table.schema}.{change.table.name}",
        "key": dict(change.key),
        "after": None if change.after is None else dict(change.after),
        "before": None if change.before is None else dict(change.before),
        "position": str(change.position),
        "commit_time": change.commit_time,
        "xid": change.xid,
        "annotation": change.annotation,
        "key_change": change.key_change,
    }


def _key(key: Mapping[str, Value]) -> str:
    return ",".join(str(value) for value in key.values())


def _what(change: Change) -> str:
    if change.op is Op.TRUNCATE:
        return "truncated"
    if change.op is Op.DELETE:
        return "deleted (its key changed)" if change.key_change else "deleted"
    assert change.after is not None
    shown = {name: value for name, value in change.after.items() if name not in change.key}
    if change.before and set(change.before) - set(change.key):
        differing = {name: value for name, value in shown.items() if change.before.get(name) != value}
        return "  ".join(f"{name}: {_short(change.before.get(name))} → {_short(v)}" for name, v in differing.items())
    return _pairs(shown)


def _pairs(values: Mapping[str, Any]) -> str:
    return "  ".join(f"{name}: {_short(value)}" for name, value in values.items())


def _short(value: object) -> str:
    text = "null" if value is None else " ".join(str(value).split())
    return text if len(text) <= _MOST else text[: _MOST - 1] + "…"
