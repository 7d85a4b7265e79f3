"""How ``cdcctl tail`` shows what it has seen: one printer a format; each takes a page's changes at once."""

from __future__ import annotations

import base64
import csv
import io
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, Protocol

from msgspec.structs import replace

from cdcctl import change_lines, output
from cdcctl.tail.order import transaction
from cdckit.change import Change
from cdckit.packing import plain
from consumers.filters.feed import FeedItem

_LIVE = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class View:
    """What to show of a change, in every format that can."""

    columns: tuple[str, ...] = ()
    transactions: bool = False
    diff: bool = False
    lag: bool = False


class Printer(Protocol):
    """Prints to stdout."""

    def show(self, seen: Sequence[FeedItem]) -> None:
        """Print these, at once."""

    def close(self) -> None:
        """Print what belongs at the end."""


def as_object(seen: FeedItem, view: View) -> Mapping[str, Any]:
    """One record for scripts; one that cannot be read says why, and holds its bytes."""
    if seen.change is None:
        return {
            "unreadable": str(seen.error), "shard": seen.shard, "sequence_number": seen.record.sequence_number,
            "data": base64.b64encode(seen.record.data).decode(),
        }  # fmt: skip
    found = change_lines.as_json(seen.change, view.columns)
    if view.lag:
        committed = seen.change.commit_time
        found["arrived_ms"] = round((seen.arrived - committed) / timedelta(milliseconds=1), 1)
        found["shown_ms"] = round((datetime.now(UTC) - committed) / timedelta(milliseconds=1), 1)
    return found


def _grouped(seen: Sequence[FeedItem], view: View) -> Iterable[Mapping[str, Any]]:
    """An object a record, or a transaction (whose changes stand side by side)."""
    if not view.transactions:
        return (as_object(one, view) for one in seen)
    return (_transaction(list(group), view) for _, group in itertools.groupby(seen, _which))


def _which(seen: FeedItem) -> object:
    return id(seen) if seen.change is None else transaction(seen.change)


def _transaction(group: Sequence[FeedItem], view: View) -> Mapping[str, Any]:
    first = group[0].change
    if first is None:
        return as_object(group[0], view)
    return {
        "xid": first.xid, "source": first.source, "commit_lsn": str(first.position.commit_lsn),
        "commit_time": first.commit_time, "annotation": first.annotation,
        "changes": [as_object(one, view) for one in group],
    }  # fmt: skip


@dataclass(slots=True)
class JsonLines:
    """One object a line."""

    view: View

    def show(self, seen: Sequence[FeedItem]) -> None:
        """One write for all."""
        output.print_json_lines(_grouped(seen, self.view))

    def close(self) -> None:
        """Nothing is left."""


@dataclass(slots=True)
class JsonArray:
    """One array, closed at the end."""

    view: View
    _any: bool = False

    def show(self, seen: Sequence[FeedItem]) -> None:
        """The next elements."""
        for one in _grouped(seen, self.view):
            output.print_plain(("," if self._any else "[") + output.json_line(one))
            self._any = True

    def close(self) -> None:
        """The bracket."""
        output.print_plain("]" if self._any else "[]")


@dataclass(slots=True)
class Csv:
    """A header, and a row a change; ``--columns`` makes columns of the row's own, else ``row`` holds it as JSON."""

    view: View
    _headed: bool = False

    def show(self, seen: Sequence[FeedItem]) -> None:
        """Rows; what cannot be read has its reason in the last cell."""
        if not seen:
            return
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if not self._headed:
            own = [f"row.{name}" for name in self.view.columns] or ["row"]
            writer.writerow(["commit_time", "op", "table", "key", "position", "xid", *own])
            self._headed = True
        writer.writerows(self._row(one) for one in seen)
        output.print_text_as_it_is(text.getvalue())

    def close(self) -> None:
        """Nothing is left."""

    def _row(self, seen: FeedItem) -> list[object]:
        change = seen.change
        if change is None:
            return ["", "?", "", "", "", "", f"unreadable: {seen.error}"]
        row = change.after if change.after is not None else change.before or {}
        own = [row.get(name) for name in self.view.columns] or [output.json_line(row)]
        table = f"{change.table.schema}.{change.table.name}"
        head = [change.commit_time.isoformat(), change.op.value, table, change_lines.key_text(change)]
        return [*head, str(change.position), change.xid, *own]


@dataclass(slots=True)
class Raw:
    """The records' own text, as the producer put it (unfolded, one a line)."""

    view: View

    def show(self, seen: Sequence[FeedItem]) -> None:
        """Lines."""
        output.print_lines([self._text(one) for one in seen])

    def close(self) -> None:
        """Nothing is left."""

    def _text(self, seen: FeedItem) -> str:
        if seen.change is None:
            return output.json_line(as_object(seen, self.view))
        return plain(seen.record.data).decode()


@dataclass(slots=True)
class Pretty:
    """A line a change (several with ``--diff``), fitted to the terminal; a line where the day or transaction turns."""

    view: View
    _line: Callable[[str], None] = field(default_factory=output.line_printer)
    _day: date = field(default_factory=date.today)
    _last: object = None

    def show(self, seen: Sequence[FeedItem]) -> None:
        """Lines."""
        groups = [list(group) for _, group in itertools.groupby(seen, _which)] if self.view.transactions else [seen]
        for group in groups:
            if self.view.transactions and group[0].change is not None:
                self._transaction(group[0].change, len(group))
            for one in group:
                self._show(one)

    def close(self) -> None:
        """Nothing is left."""

    def _show(self, seen: FeedItem) -> None:
        change = seen.change
        if change is None:
            why = output.escape(str(seen.error).removeprefix("unreadable record: "))
            self._line(f"[red]? unreadable record[/] [dim]{why} ({seen.shard} {seen.record.sequence_number})[/]")
            return
        self._turn(change.commit_time.astimezone().date())
        if self.view.transactions:
            change = replace(change, annotation=None)  # its transaction's line has it
        chosen = {"columns": self.view.columns, "width": output.width(), "mark": self._mark(seen, change)}
        if self.view.diff:
            for line in change_lines.diff(change, seen.known, **chosen):  # type: ignore[arg-type]
                self._line(line)
        else:
            self._line(change_lines.pretty(change, seen.known, **chosen))  # type: ignore[arg-type]

    def _transaction(self, first: Change, count: int) -> None:
        if transaction(first) == self._last:
            return
        self._last = transaction(first)
        self._turn(first.commit_time.astimezone().date())
        note = "  ".join(f"{name}: {value}" for name, value in (first.annotation or {}).items())
        changes = "1 change" if count == 1 else f"{count} changes"
        text = f"[bold]── transaction {first.xid or '-'}[/] [dim]at {first.position.commit_lsn}, {changes}[/]"
        self._line(f"{text}  [italic magenta]{output.escape(note)}[/]" if note else text)

    def _turn(self, day: date) -> None:
        if day != self._day:
            self._day = day
            self._line(f"[dim]── {day.isoformat()} ──[/]")

    def _mark(self, seen: FeedItem, change: Change) -> str:
        if not self.view.lag:
            return ""
        now = datetime.now(UTC)
        # of what was already there the time until now says nothing: then it is the time until it arrived
        return change_lines.lag_mark((now if now - seen.arrived < _LIVE else seen.arrived) - change.commit_time)
