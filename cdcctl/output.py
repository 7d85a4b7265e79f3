"""All that cdcctl prints: results to stdout, the rest to stderr; the only importer of rich.

``-o json`` prints one JSON object (or ``jsonl`` one a line) with no colour and no wrapping, for scripts.
"""

from __future__ import annotations

import csv
import io
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console, Group  # noqa: TID251
from rich.live import Live  # noqa: TID251
from rich.markup import escape as escape  # noqa: TID251, PLC0414 -- re-exported
from rich.panel import Panel  # noqa: TID251
from rich.table import Table  # noqa: TID251
from rich.text import Text  # noqa: TID251

from cdckit.errors import CdcError, UsageError

_UNBOUNDED = 10_000  # a pipe gets a table's cells whole


class _Piped(Console):
    """A console whose reader may go away (| head): the root command ends quietly then."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def stdout() -> Console:
    """The console of results. Made anew, so that tests and pipes see the stream that is in place now."""
    columns = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _UNBOUNDED
    return _Piped(file=sys.stdout, soft_wrap=not sys.stdout.isatty(), highlight=False, width=columns)


def stderr() -> Console:
    """The console of everything that is no result."""
    return Console(file=sys.stderr, stderr=True, soft_wrap=not sys.stderr.isatty(), highlight=False)


def print_text(markup: str = "") -> None:
    """A result, in rich's markup: `escape` what comes from outside."""
    stdout().print(markup)


def line_printer() -> Callable[[str], None]:
    """Prints results on exactly one line each: cut to the terminal's width, whole when there is no terminal."""
    console = stdout()
    if not sys.stdout.isatty():
        return console.print
    return lambda markup: console.print(markup, no_wrap=True, overflow="ellipsis")


def print_line(markup: str) -> None:
    """One such line."""
    line_printer()(markup)


def print_plain(line: str) -> None:
    """A result as it is: no markup, no colour, no wrapping."""
    print_text_as_it_is(line + "\n")


def print_lines(lines: Sequence[str]) -> None:
    """Many results as they are, in one write."""
    if lines:
        print_text_as_it_is("\n".join(lines) + "\n")


def print_text_as_it_is(text: str) -> None:
    """A result as it is, its line ends in it."""
    sys.stdout.write(text)
    sys.stdout.flush()


def print_bytes(data: bytes) -> None:
    """A result as it is, byte for byte."""
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def confirm(question: str) -> bool:
    """Ask on stderr; no terminal, no yes."""
    if not sys.stdin.isatty():
        note(f"{escape(question)} [dim]no terminal to ask on: say --yes[/]")
        return False
    stderr().print(f"{escape(question)} [y/N] ", end="")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], title: str = "", *, markup: bool = False
) -> None:
    """A result as a table; cells are plain text (None is shown dimmed), or rich's markup where that is said."""
    stdout().print(table(columns, rows, title, markup=markup))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str = "", *, markup: bool = False) -> Table:
    """The same, to be drawn by a live display."""
    made = Table(*columns, title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for row in rows:
        made.add_row(
            *("[dim]null[/dim]" if cell is None else str(cell) if markup else escape(str(cell)) for cell in row)
        )
    return made


def json_line(value: object) -> str:
    """One line of JSON: exact numbers (Decimal as a number), times in ISO 8601, all else by `str`."""
    return _JSON.encode(value).decode()


def print_json_lines(values: Iterable[object]) -> None:
    """One such line for each, in one write."""
    print_text_as_it_is(_JSON.encode_lines(list(values)).decode())


def print_json(value: Mapping[str, Any] | Sequence[Any]) -> None:
    """A result as JSON on stdout."""
    print_text_as_it_is(json_line(value) + "\n")


def print_csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """A result as CSV with a header."""
    writer = csv.DictWriter(sys.stdout, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    sys.stdout.flush()


def print_parquet(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """A result as one Parquet file on stdout, cells as text. Raises UsageError on a terminal."""
    if sys.stdout.isatty():
        raise UsageError("Parquet is not for a terminal", "redirect it: … -o parquet > file.parquet")
    import pyarrow as pa  # noqa: PLC0415 -- slow to load, and only this needs it
    import pyarrow.parquet as pq  # noqa: PLC0415

    cells = {
        name: pa.array([None if row[name] is None else str(row[name]) for row in rows], pa.string()) for name in columns
    }
    buffer = io.BytesIO()
    pq.write_table(pa.table(cells), buffer)
    print_bytes(buffer.getvalue())


Screen = Group
"""One frame of a live display."""


def screen(
    title: str, log: Sequence[str], height: int, columns: Sequence[str], rows: Iterable[Sequence[str]]
) -> Screen:
    """A frame: some lines of a log (markup, cut to the width) above a table."""
    body = [_one_line(line) for line in log]
    body += [Text("")] * (height - len(body))
    table = Table(*columns, box=None, pad_edge=False, header_style="bold", expand=True)
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    return Group(Panel(Group(*body), title=title, title_align="left", border_style="dim"), table)


def stacked(lines: Sequence[str], table: tuple[Sequence[str], Iterable[Sequence[str]]], below: Sequence[str]) -> Screen:
    """A frame: lines, a table (its columns, its rows), lines; all in rich's markup, none wider than the terminal."""
    shown = Table(*table[0], box=None, pad_edge=False, header_style="bold")
    for row in table[1]:
        shown.add_row(*row)
    return Group(*map(_one_line, lines), "", shown, "", *map(_one_line, below))


def _one_line(markup: str) -> Text:
    text = Text.from_markup(markup, overflow="ellipsis")
    text.no_wrap = True
    return text


def width() -> int:
    """The columns of results' console."""
    return stdout().width


def live(console: Console, *, whole_screen: bool = False) -> Live:
    """A display that is drawn again in place, on a terminal only; `whole_screen` gives the old one back at the end."""
    return Live(
        console=console, refresh_per_second=8, transient=True, screen=whole_screen,
        redirect_stderr=False, redirect_stdout=False,
    )  # fmt: skip


SVG_COLUMNS = 120


def as_printed(text: str) -> Screen:
    """What a command has printed on a terminal, with its colours."""
    return Group(Text.from_ansi(text))


def save_svg(frame: Screen, path: Path, title: str, columns: int = SVG_COLUMNS) -> None:
    """Write a frame as an SVG image, so many columns wide."""
    console = Console(record=True, file=io.StringIO(), width=columns, force_terminal=True)
    console.print(frame)
    path.parent.mkdir(parents=True, exist_ok=True)
    console.save_svg(str(path), title=title)


def note(markup: str) -> None:
    """Progress and remarks, on stderr."""
    stderr().print(markup)


def passing(text: str = "") -> None:
    """A line on stderr that the next one, or a note, takes the place of; none takes it away. On a terminal only."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{text[: stderr().width - 1]}\x1b[K")
        sys.stderr.flush()


def failure(error: CdcError) -> None:
    """An error and what mends it, on stderr."""
    console = stderr()
    console.print(f"[bold red]error:[/] {escape(error.message)}")
    if error.hint:
        console.print(f"[bold]hint:[/]  {escape(error.hint)}")


_JSON = msgspec.json.Encoder(decimal_format="number", enc_hook=str)
