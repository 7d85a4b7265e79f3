"""The printers of ``cdcctl tail``, one per output format. Each prints the changes of a page at once."""

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
from cdckit.packing import decompress
from consumers.filters.feed import FeedItem

_LIVE = timedelta(seconds=10)  # a change that arrived more recently counts as live


@dataclass(frozen=True, slots=True)
class View:
    """What to print of a change, in the formats that support it."""

    columns: tuple[str, ...] = ()
    transactions: bool = False
    diff: bool = False
    lag: bool = False


class Printer(Protocol):
    """Prints to stdout."""

    def show(self, seen: Sequence[FeedItem]) -> None:
        """Print the changes."""

    def close(self) -> None:
        """Print the end of the output."""


def as_object(seen: FeedItem, view: View) -> Mapping[str, Any]:
    """A change as an object for JSON; an unreadable record as an object with the error and its bytes."""
    if seen.change is None:
        return {
            "unreadable": str(seen.error), "shard": seen.shard, "sequence_number": seen.record.sequence_number,
            "data": base64.b64encode(seen.record.data).decode(),
        }  # fmt: skip
    fields = change_lines.as_json(seen.change, view.columns)
    if view.lag:
        committed = seen.change.commit_time
        fields["arrived_ms"] = round((seen.arrived - committed) / timedelta(milliseconds=1), 1)
        fields["shown_ms"] = round((datetime.now(UTC) - committed) / timedelta(milliseconds=1), 1)
    return fields


def _grouped(seen: Sequence[FeedItem], view: View) -> Iterable[Mapping[str, Any]]:
    """One object per change, or per transaction; the changes of a transaction are adjacent."""
    if not view.transactions:
        return (as_object(item, view) for item in seen)
    return (_transaction(list(group), view) for _, group in itertools.groupby(seen, _group_key))


def _group_key(seen: FeedItem) -> object:
    return id(seen) if seen.change is None else transaction(seen.change)


def _transaction(group: Sequence[FeedItem], view: View) -> Mapping[str, Any]:
    first = group[0].change
    if first is None:
        return as_object(group[0], view)
    return {
        "xid": first.xid, "source": first.source, "commit_lsn": str(first.position.commit_lsn),
        "commit_time": first.commit_time, "annotation": first.annotation,
        "changes": [as_object(item, view) for item in group],
    }  # fmt: skip


@dataclass(slots=True)
class JsonLines:
    """Prints one JSON object per line."""

    view: View

    def show(self, seen: Sequence[FeedItem]) -> None:
        """Print the objects in one write."""
        output.print_json_lines(_grouped(seen, self.view))

    def close(self) -> None:
        """Nothing to print."""


@dataclass(slots=True)
class JsonArray:
    """Prints one JSON array."""

    view: View
    _started: bool = False

    def show(self, seen: Sequence[FeedItem]) -> None:
        """Print the next elements."""
        for item in _grouped(seen, self.view):
            output.print_plain(("," if self._started else "[") + output.json_line(item))
            self._started = True

    def close(self) -> None:
        """Print the closing bracket."""
        output.print_plain("]" if self._started else "[]")


@dataclass(slots=True)
class Csv:
    """Prints a header and one line per change, with the row as JSON or the columns of ``--columns``."""

    view: View
    _header_printed: bool = False

    def show(self, seen: Sequence[FeedItem]) -> None:
        """Print the rows; the last cell of an unreadable record is its error."""
        if not seen:
            return
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if not self._header_printed:
            columns = [f"row.{name}" for name in self.view.columns] or ["row"]
            writer.writerow(["commit_time", "op", "table", "key", "position", "xid", *columns])
            self._header_printed = True
        writer.writerows(self._row(item) for item in seen)
        output.write_text(text.getvalue())

    def close(self) -> None:
        """Nothing to print."""

    def _row(self, seen: FeedItem) -> list[object]:
        change = seen.change
        if change is None:
            return ["", "?", "", "", "", "", f"unreadable: {seen.error}"]
        row = change.after if change.after is not None else change.before or {}
        cells = [row.get(name) for name in self.view.columns] or [output.json_line(row)]
        table = f"{change.table.schema}.{change.table.name}"
        head = [change.commit_time.isoformat(), change.op.value, table, change_lines.display_key(change)]
        return [*head, str(change.position), change.xid, *cells]


@dataclass(slots=True)
class Raw:
    """Prints the text of the records as the producer wrote it, decompressed, one per line."""

    view: View

    def show(self, seen: Sequence[FeedItem]) -> None:
        """Print the lines."""
        output.print_lines([self._text(item) for item in seen])

    def close(self) -> None:
        """Nothing to print."""

    def _text(self, seen: FeedItem) -> str:
        if seen.change is None:
            return output.json_line(as_object(seen, self.view))
        return decompress(seen.record.data).decode()


@dataclass(slots=True)
class Pretty:
    """Prints one line per change (several with ``--diff``), cut to the terminal, and one per day and transaction."""

    view: View
    _line: Callable[[str], None] = field(default_factory=output.line_printer)
    _day: date = field(default_factory=date.today)
    _last_transaction: object = None

    def show(self, seen: Sequence[FeedItem]) -> None:
        """Print the lines."""
        groups = [list(group) for _, group in itertools.groupby(seen, _group_key)] if self.view.transactions else [seen]
        for group in groups:
            if self.view.transactions and group[0].change is not None:
                self._print_transaction(group[0].change, len(group))
            for item in group:
                self._print_change(item)

    def close(self) -> None:
        """Nothing to print."""

    def _print_change(self, seen: FeedItem) -> None:
        change = seen.change
        if change is None:
            error = output.escape(str(seen.error).removeprefix("unreadable record: "))
            self._line(f"[red]? unreadable record[/] [dim]{error} ({seen.shard} {seen.record.sequence_number})[/]")
            return
        self._print_day(change.commit_time.astimezone().date())
        if self.view.transactions:
            change = replace(change, annotation=None)  # printed with the transaction
        options = {"columns": self.view.columns, "width": output.width(), "prefix": self._lag(seen, change)}
        if self.view.diff:
            for line in change_lines.format_diff(change, seen.known, **options):  # type: ignore[arg-type]
                self._line(line)
        else:
            self._line(change_lines.format_line(change, seen.known, **options))  # type: ignore[arg-type]

    def _print_transaction(self, first: Change, count: int) -> None:
        if transaction(first) == self._last_transaction:
            return
        self._last_transaction = transaction(first)
        self._print_day(first.commit_time.astimezone().date())
        note = "  ".join(f"{name}: {value}" for name, value in (first.annotation or {}).items())
        changes = "1 change" if count == 1 else f"{count} changes"
        text = f"[bold]── transaction {first.xid or '-'}[/] [dim]at {first.position.commit_lsn}, {changes}[/]"
        self._line(f"{text}  [italic magenta]{output.escape(note)}[/]" if note else text)

    def _print_day(self, day: date) -> None:
        if day != self._day:
            self._day = day
            self._line(f"[dim]── {day.isoformat()} ──[/]")

    def _lag(self, seen: FeedItem, change: Change) -> str:
        if not self.view.lag:
            return ""
        now = datetime.now(UTC)
        # for a change that was already on the stream, use the time until it arrived there
        return change_lines.format_lag((now if now - seen.arrived < _LIVE else seen.arrived) - change.commit_time)
