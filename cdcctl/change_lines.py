"""One change as one line for people, as several with ``--diff``, or as one JSON object for scripts."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Any

from cdcctl.output import escape
from cdckit.change import Change, Op, Value

_STYLES = {Op.INSERT: "green", Op.UPDATE: "yellow", Op.DELETE: "red", Op.TRUNCATE: "bold red"}
_MOST = 40
_NARROW = 100
_WHOLE_KEY = 48  # a UUID and then some
_ARROW = " → "


def pretty(
    change: Change,
    known: Mapping[str, Value] | None = None,
    *,
    columns: Collection[str] = (),
    width: int = _NARROW,
    mark: str = "",
) -> str:
    """``10:00:00.123 U public.orders 42  status: new → paid  (actor: alice)`` in rich's markup.

    `known` is the row as it was before, `columns` are those to show (none: all), `mark` stands behind the time. Where
    the terminal is narrow, names and keys are cut so that what changed is seen.
    """
    what = "  ".join(filter(None, (_said(change), *_differences(change, known, columns))))
    line = f"{_head(change, width, mark)}  {what}" if what else _head(change, width, mark)
    return line + (f"  [italic magenta]({escape(_pairs(change.annotation))})[/]" if change.annotation else "")


def diff(
    change: Change,
    known: Mapping[str, Value] | None = None,
    *,
    columns: Collection[str] = (),
    width: int = _NARROW,
    mark: str = "",
) -> list[str]:
    """The same, a line a column: ``+`` what came, ``-`` what went, ``~`` what changed."""
    annotation = f"  [italic magenta]({escape(_pairs(change.annotation))})[/]" if change.annotation else ""
    said = _said(change)
    lines = [f"{_head(change, width, mark)}{'  ' + said if said else ''}{annotation}"]
    before, after = _before(change, known) or {}, change.after or {}
    for name in _shown({**before, **after}, change, columns):
        old, new = _short(before.get(name), width), _short(after.get(name), width)
        if change.op is Op.DELETE:
            lines.append(f"    [red]- {escape(name)}: {escape(old)}[/]")
        elif name not in before:
            lines.append(f"    [green]+ {escape(name)}: {escape(new)}[/]")
        elif name in after and before[name] != after[name]:
            lines.append(f"    [yellow]~ {escape(name)}: {escape(old)}{_ARROW}{escape(new)}[/]")
    return lines


def as_json(change: Change, columns: Collection[str] = ()) -> dict[str, Any]:
    """The change with all it knows (or some columns); numbers exact, times in ISO 8601."""
    table = change.table
    return {
        "op": change.op,
        "source": change.source,
        "table": f"{table.schema}.{table.name}",
        "key": change.key,
        "after": _chosen(change.after, columns),
        "before": _chosen(change.before, columns),
        "position": str(change.position),
        "commit_time": change.commit_time,
        "xid": change.xid,
        "annotation": change.annotation,
        "key_change": change.key_change,
    }


def span(seconds: float) -> str:
    """A duration in a few signs: ``180ms``, ``2.5s``, ``12m``, ``3.1h``, ``4.0d``."""
    if abs(seconds) < 1:
        return f"{seconds * 1000:.0f}ms"
    for unit, size in (("s", 60), ("m", 60), ("h", 24)):
        if abs(seconds) < size:
            return f"{seconds:.1f}{unit}"
        seconds /= size
    return f"{seconds:.1f}d"


def lag_mark(lag: timedelta) -> str:
    """A lag behind a line's time, in colours by its size."""
    seconds = lag.total_seconds()
    style = "green" if seconds < 1 else "yellow" if seconds < 60 else "red"
    return f"[{style}]{span(seconds):>6}[/] "


def _head(change: Change, width: int, mark: str) -> str:
    style = _STYLES[change.op]
    time = change.commit_time.astimezone().strftime("%H:%M:%S.%f")[:-3]
    narrow = width < _NARROW
    table, key = (
        _cut(str(change.table), width // 3 if narrow else width),
        _cut(key_text(change), width // 4 if narrow else _WHOLE_KEY),
    )
    line = f"[dim]{time}[/] {mark}[{style}]{change.op.value}[/] [bold]{escape(table)}[/]"
    return f"{line} [cyan]{escape(key)}[/]" if key else line


def key_text(change: Change) -> str:
    """The key for people: its values, joined by commas."""
    return ",".join(str(value) for value in change.key.values())


def _said(change: Change) -> str:
    if change.op is Op.TRUNCATE:
        return "truncated"
    if change.op is Op.DELETE:
        return "deleted (its key changed)" if change.key_change else "deleted"
    return "(its key changed)" if change.key_change else ""


def _differences(change: Change, known: Mapping[str, Value] | None, columns: Collection[str]) -> list[str]:
    if change.after is None:
        return []
    shown = _shown(change.after, change, columns)
    before = _before(change, known) if change.op is Op.UPDATE else None
    if before is None:
        return [_pair(name, change.after[name]) for name in shown]
    changed = [name for name in shown if name not in before or before[name] != change.after[name]]
    return [_changed(name, before, change.after[name]) for name in changed] or ["[dim]nothing changed[/]"]


def _changed(name: str, before: Mapping[str, Value], new: Value) -> str:
    if name not in before:
        return _pair(name, new)
    return f"[dim]{escape(name)}:[/] {escape(_short(before[name]))}[dim]{_ARROW}[/]{escape(_short(new))}"


def _before(change: Change, known: Mapping[str, Value] | None) -> Mapping[str, Value] | None:
    """The row before: what the stream says of it (REPLICA IDENTITY FULL), else what went by earlier."""
    if change.before and set(change.before) - set(change.key):
        return change.before
    return known


def _shown(row: Mapping[str, Value], change: Change, columns: Collection[str]) -> list[str]:
    return [name for name in row if name not in change.key and (not columns or name in columns)]


def _chosen(row: Mapping[str, Value] | None, columns: Collection[str]) -> Mapping[str, Value] | None:
    if row is None or not columns:
        return row
    return {name: value for name, value in row.items() if name in columns}


def _pair(name: str, value: object) -> str:
    return f"[dim]{escape(name)}:[/] {escape(_short(value))}"


def _pairs(values: Mapping[str, Any]) -> str:
    return "  ".join(f"{name}: {_short(value)}" for name, value in values.items())


def _short(value: object, most: int = _MOST) -> str:
    return _cut("null" if value is None else " ".join(str(value).split()), most)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: max(1, most - 1)] + "…"
