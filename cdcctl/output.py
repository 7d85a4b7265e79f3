"""Everything that cdcctl prints: results on stdout, everything else on stderr. The only module that imports rich.

``-o json`` prints one JSON object, ``-o jsonl`` one per line, without color or wrapping, for scripts.
"""

from __future__ import annotations

import csv
import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import msgspec
import typer
from rich.console import Console, Group  # noqa: TID251
from rich.filesize import decimal  # noqa: TID251
from rich.live import Live  # noqa: TID251
from rich.markup import escape as escape  # noqa: TID251, PLC0414 -- re-exported
from rich.panel import Panel  # noqa: TID251
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn  # noqa: TID251
from rich.table import Table  # noqa: TID251
from rich.text import Text  # noqa: TID251

from cdckit.errors import CdcError, UsageError

_PIPE_WIDTH = 10_000  # a table printed into a pipe is not cut
_WIDE = 88  # columns from which a progress bar has room for the position


class _PipeConsole(Console):
    """A console that raises BrokenPipeError when the reader closes the pipe (| head); the root command handles it."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def stdout() -> Console:
    """The console for results. A new one per call, so that it uses the current sys.stdout."""
    columns = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _PIPE_WIDTH
    return _PipeConsole(file=sys.stdout, soft_wrap=not sys.stdout.isatty(), highlight=False, width=columns)


def stderr() -> Console:
    """The console for everything that is not a result."""
    return Console(file=sys.stderr, stderr=True, soft_wrap=not sys.stderr.isatty(), highlight=False)


def print_text(markup: str = "") -> None:
    """Print a result in rich markup; `escape` any text from outside."""
    stdout().print(markup)


def line_printer() -> Callable[[str], None]:
    """A function that prints markup on exactly one line: cut to the terminal's width, complete without a terminal."""
    console = stdout()
    if not sys.stdout.isatty():
        return console.print
    return lambda markup: console.print(markup, no_wrap=True, overflow="ellipsis")


def print_line(markup: str) -> None:
    """Print a result in rich markup on one line."""
    line_printer()(markup)


def print_plain(line: str) -> None:
    """Print a result without markup, color or wrapping."""
    write_text(line + "\n")


def print_lines(lines: Sequence[str]) -> None:
    """Print plain lines in one write."""
    if lines:
        write_text("\n".join(lines) + "\n")


def write_text(text: str) -> None:
    """Write text to stdout unchanged, without adding a line end."""
    sys.stdout.write(text)
    sys.stdout.flush()


def print_bytes(data: bytes) -> None:
    """Write bytes to stdout unchanged."""
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def confirm(question: str) -> bool:
    """Ask a yes/no question on stderr, with "no" as the default. False without a terminal."""
    if not sys.stdin.isatty():
        note(f"{escape(question)} [dim]no terminal to ask on: use --yes[/]")
        return False
    with redirect_stdout(sys.stderr):  # typer writes the last character of a question to stdout
        return typer.confirm(question)


def prompt(question: str, default: str) -> str:
    """Ask for a value on stderr; Enter accepts `default`. Raises typer.Abort on Ctrl-C and at the end of the input."""
    with redirect_stdout(sys.stderr):
        return str(typer.prompt(question, default=default, show_default=bool(default)))


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], title: str = "", *, markup: bool = False
) -> None:
    """Print a result as a table. Cells are plain text (None is dimmed), or rich markup when `markup` is set."""
    stdout().print(table(columns, rows, title, markup=markup))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str = "", *, markup: bool = False) -> Table:
    """Build a table, for `print_table` or a live display."""
    built = Table(*columns, title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for row in rows:
        built.add_row(
            *("[dim]null[/dim]" if cell is None else str(cell) if markup else escape(str(cell)) for cell in row)
        )
    return built


def json_line(value: object) -> str:
    """Encode as one line of JSON: Decimals as exact numbers, times in ISO 8601, other types by `str`."""
    return _JSON.encode(value).decode()


def print_json_lines(values: Iterable[object]) -> None:
    """Print one line of JSON per value, in one write."""
    write_text(_JSON.encode_lines(list(values)).decode())


def print_json(value: Mapping[str, Any] | Sequence[Any]) -> None:
    """Print a result as JSON."""
    write_text(json_line(value) + "\n")


def print_csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Print a result as CSV with a header line."""
    writer = csv.DictWriter(sys.stdout, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    sys.stdout.flush()


def print_parquet(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a result to stdout as one Parquet file, all cells as text. Raises UsageError on a terminal."""
    if sys.stdout.isatty():
        raise UsageError("Parquet cannot be printed on a terminal", "redirect it: … -o parquet > file.parquet")
    import pyarrow as pa  # noqa: PLC0415 -- slow to import, and only needed here
    import pyarrow.parquet as pq  # noqa: PLC0415

    cells = {
        name: pa.array([None if row[name] is None else str(row[name]) for row in rows], pa.string()) for name in columns
    }
    buffer = io.BytesIO()
    pq.write_table(pa.table(cells), buffer)
    print_bytes(buffer.getvalue())


def file_size(count: float) -> str:
    """A number of bytes with a decimal unit: ``1.5 kB``."""
    return decimal(round(count))


Screen = Group
"""One frame of a live display."""


def log_frame(
    title: str, log: Sequence[str], height: int, columns: Sequence[str], rows: Iterable[Sequence[str]]
) -> Screen:
    """A frame with log lines (markup, cut to the width) in a panel of `height` lines above a table."""
    body = [_one_line(line) for line in log]
    body += [Text("")] * (height - len(body))
    below = Table(*columns, box=None, pad_edge=False, header_style="bold", expand=True)
    for row in rows:
        below.add_row(*(escape(cell) for cell in row))
    return Group(Panel(Group(*body), title=title, title_align="left", border_style="dim"), below)


def table_frame(
    above: Sequence[str], table: tuple[Sequence[str], Iterable[Sequence[str]]], below: Sequence[str]
) -> Screen:
    """A frame with a table (columns and rows) between lines, all in rich markup and cut to the terminal's width."""
    shown = Table(*table[0], box=None, pad_edge=False, header_style="bold")
    for row in table[1]:
        shown.add_row(*row)
    return Group(*map(_one_line, above), "", shown, "", *map(_one_line, below))


def _one_line(markup: str) -> Text:
    text = Text.from_markup(markup, overflow="ellipsis")
    text.no_wrap = True
    return text


def width() -> int:
    """The width of the results' console, in columns."""
    return stdout().width


def live(console: Console, *, whole_screen: bool = False) -> Live:
    """A display redrawn in place, on a terminal only. `whole_screen` uses the alternate screen."""
    return Live(
        console=console, refresh_per_second=8, transient=True, screen=whole_screen,
        redirect_stderr=False, redirect_stdout=False,
    )  # fmt: skip


def progress_bar(console: Console) -> Progress:
    """A progress bar that is removed at the end. Its task has the fields `count`, `rate` and `position`."""
    wide = console.width >= _WIDE
    columns = [
        BarColumn(20 if wide else 10), TaskProgressColumn(), TextColumn("{task.fields[count]:,} changes"),
        TextColumn("{task.fields[rate]:,.0f}/s"), TimeRemainingColumn(compact=True), TextColumn("left"),
    ]  # fmt: skip
    if wide:
        columns.append(TextColumn("[dim]{task.fields[position]}[/]"))
    return Progress(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False)


@contextmanager
def spinner() -> Iterator[Callable[[str], None]]:
    """Show a line of plain text with a spinner on stderr until the block ends; nothing without a terminal."""
    if not sys.stderr.isatty():
        yield lambda _text: None
        return
    with stderr().status("") as status:
        yield lambda text: status.update(escape(text))


SVG_COLUMNS = 120


def from_ansi(text: str) -> Screen:
    """A frame with the captured output of a terminal, including its colors."""
    return Group(Text.from_ansi(text))


def save_svg(frame: Screen, path: Path, title: str, columns: int = SVG_COLUMNS) -> None:
    """Write a frame as an SVG image, `columns` wide."""
    console = Console(record=True, file=io.StringIO(), width=columns, force_terminal=True)
    console.print(frame)
    path.parent.mkdir(parents=True, exist_ok=True)
    console.save_svg(str(path), title=title)


def note(markup: str) -> None:
    """Print progress or a remark on stderr, in rich markup."""
    stderr().print(markup)


def print_error(error: CdcError) -> None:
    """Print an error and its hint on stderr."""
    console = stderr()
    console.print(f"[bold red]error:[/] {escape(error.message)}")
    if error.hint:
        console.print(f"[bold]hint:[/]  {escape(error.hint)}")


_JSON = msgspec.json.Encoder(decimal_format="number", enc_hook=str)
