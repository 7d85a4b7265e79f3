"""Formats a change: as one line, as several lines with ``--diff``, or as a JSON object."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Any

from cdcctl.output import escape
from cdckit.change import Change, Op, Value

_STYLES = {Op.INSERT: "green", Op.UPDATE: "yellow", Op.DELETE: "red", Op.TRUNCATE: "bold red"}
_MAX_CELL = 40
_NARROW_WIDTH = 100
_MAX_KEY = 48  # longer than a UUID
_ARROW = " → "


def format_line(
    change: Change,
    previous: Mapping[str, Value] | None = None,
    *,
    columns: Collection[str] = (),
    width: int = _NARROW_WIDTH,
    prefix: str = "",
) -> str:
    """``10:00:00.123 U public.orders 42  status: new → paid  (actor: alice)`` in rich markup.

    `previous` is the row before the change, `columns` limits the columns shown, `prefix` follows the time. On a narrow
    terminal names and keys are shortened to leave room for the changed values.
    """
    details = "  ".join(filter(None, (_operation_note(change), *_differences(change, previous, columns))))
    line = f"{_head(change, width, prefix)}  {details}" if details else _head(change, width, prefix)
    return line + (f"  [italic magenta]({escape(_pairs(change.annotation))})[/]" if change.annotation else "")


def format_diff(
    change: Change,
    previous: Mapping[str, Value] | None = None,
    *,
    columns: Collection[str] = (),
    width: int = _NARROW_WIDTH,
    prefix: str = "",
) -> list[str]:
    """The change with one line per column: ``+`` added, ``-`` deleted, ``~`` changed."""
    annotation = f"  [italic magenta]({escape(_pairs(change.annotation))})[/]" if change.annotation else ""
    note = _operation_note(change)
    lines = [f"{_head(change, width, prefix)}{'  ' + note if note else ''}{annotation}"]
    before, after = _before(change, previous) or {}, change.after or {}
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
    """The change as an object for JSON, with all or the selected columns."""
    table = change.table
    return {
        "op": change.op,
        "source": change.source,
        "table": f"{table.schema}.{table.name}",
        "key": change.key,
        "after": _select_columns(change.after, columns),
        "before": _select_columns(change.before, columns),
        "position": str(change.position),
        "commit_time": change.commit_time,
        "xid": change.xid,
        "annotation": change.annotation,
        "key_change": change.key_change,
    }


def format_duration(seconds: float) -> str:
    """A short duration: ``180ms``, ``2.5s``, ``12.0m``, ``3.1h``, ``4.0d``."""
    if abs(seconds) < 1:
        return f"{seconds * 1000:.0f}ms"
    for unit, size in (("s", 60), ("m", 60), ("h", 24)):
        if abs(seconds) < size:
            return f"{seconds:.1f}{unit}"
        seconds /= size
    return f"{seconds:.1f}d"


def format_lag(lag: timedelta) -> str:
    """A lag as markup, colored by its size."""
    seconds = lag.total_seconds()
    style = "green" if seconds < 1 else "yellow" if seconds < 60 else "red"
    return f"[{style}]{format_duration(seconds):>6}[/] "


def _head(change: Change, width: int, prefix: str) -> str:
    style = _STYLES[change.op]
    time = change.commit_time.astimezone().strftime("%H:%M:%S.%f")[:-3]
    narrow = width < _NARROW_WIDTH
    table, key = (
        _cut(str(change.table), width // 3 if narrow else width),
        _cut(display_key(change), width // 4 if narrow else _MAX_KEY),
    )
    line = f"[dim]{time}[/] {prefix}[{style}]{change.op.value}[/] [bold]{escape(table)}[/]"
    return f"{line} [cyan]{escape(key)}[/]" if key else line


def display_key(change: Change) -> str:
    """The values of the key, joined by commas."""
    return ",".join(str(value) for value in change.key.values())


def _operation_note(change: Change) -> str:
    if change.op is Op.TRUNCATE:
        return "truncated"
    if change.op is Op.DELETE:
        return "deleted (its key changed)" if change.key_change else "deleted"
    return "(its key changed)" if change.key_change else ""


def _differences(change: Change, previous: Mapping[str, Value] | None, columns: Collection[str]) -> list[str]:
    if change.after is None:
        return []
    shown = _shown(change.after, change, columns)
    before = _before(change, previous) if change.op is Op.UPDATE else None
    if before is None:
        return [_pair(name, change.after[name]) for name in shown]
    changed = [name for name in shown if name not in before or before[name] != change.after[name]]
    return [_changed(name, before, change.after[name]) for name in changed] or ["[dim]nothing changed[/]"]


def _changed(name: str, before: Mapping[str, Value], new: Value) -> str:
    if name not in before:
        return _pair(name, new)
    return f"[dim]{escape(name)}:[/] {escape(_short(before[name]))}[dim]{_ARROW}[/]{escape(_short(new))}"


def _before(change: Change, previous: Mapping[str, Value] | None) -> Mapping[str, Value] | None:
    """The row before the change: from the change itself (REPLICA IDENTITY FULL), else the previously seen row."""
    if change.before and set(change.before) - set(change.key):
        return change.before
    return previous


def _shown(row: Mapping[str, Value], change: Change, columns: Collection[str]) -> list[str]:
    return [name for name in row if name not in change.key and (not columns or name in columns)]


def _select_columns(row: Mapping[str, Value] | None, columns: Collection[str]) -> Mapping[str, Value] | None:
    if row is None or not columns:
        return row
    return {name: value for name, value in row.items() if name in columns}


def _pair(name: str, value: object) -> str:
    return f"[dim]{escape(name)}:[/] {escape(_short(value))}"


def _pairs(values: Mapping[str, Any]) -> str:
    return "  ".join(f"{name}: {_short(value)}" for name, value in values.items())


def _short(value: object, max_length: int = _MAX_CELL) -> str:
    return _cut("null" if value is None else " ".join(str(value).split()), max_length)


def _cut(text: str, max_length: int) -> str:
    return text if len(text) <= max_length else text[: max(1, max_length - 1)] + "…"
