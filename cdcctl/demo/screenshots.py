"""Saves images for the docs: runs commands on a pseudo-terminal while the demo runs, and renders their output."""

from __future__ import annotations

import fcntl
import os
import pty
import shlex
import struct
import subprocess
import tempfile
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path

from cdcctl import output
from cdckit.runtime.child_process import module_command

SCREENSHOTS: Mapping[str, Sequence[Sequence[str]]] = {
    "tail": [("tail", "-n", "6", "--no-follow", "--tx"), ("tail", "-n", "3", "--no-follow", "--diff", "--lag")],
    "replay": [
        ("replay", "audit", "--from", "10m", "--to", "1m", "--dry-run"),
        ("replay", "audit", "--from", "earliest", "--into", "look"),
    ],
    "verify": [("verify", "search")],
}
_ROWS = 60
_TERMINAL_OVERRIDES = ("COLUMNS", "LINES", "NO_COLOR")


def save_screenshots(folder: Path, environ: Mapping[str, str], columns: int = output.SVG_COLUMNS) -> None:
    """Write ``NAME.svg`` for each entry of `SCREENSHOTS`. The commands run in a temporary folder."""
    absolute = {name: str(Path(environ[name]).absolute()) for name in ("CDC_DATA", "CDC_CONFIG")}
    with tempfile.TemporaryDirectory() as place:
        for name, commands in SCREENSHOTS.items():
            shown = [screenshot(command, {**environ, **absolute}, Path(place), columns) for command in commands]
            output.save_svg(output.from_ansi("\n".join(shown)), folder / f"{name}.svg", f"cdcctl {name}", columns)


def screenshot(command: Sequence[str], environ: Mapping[str, str], folder: Path, columns: int) -> str:
    """The output of ``cdcctl COMMAND`` on a terminal `columns` wide, with colors; the command runs in `folder`."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, columns, 0, 0))
    variables = {**os.environ, **environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", "TZ": "UTC"}
    variables = {name: value for name, value in variables.items() if name not in _TERMINAL_OVERRIDES}
    arguments = module_command("cdcctl.main", *command)
    with subprocess.Popen(arguments, env=variables, cwd=folder, stdin=slave, stdout=slave, stderr=slave):
        os.close(slave)
        text = b"".join(iter(lambda: _read(master), b"")).decode(errors="replace")
    os.close(master)
    return f"\x1b[1;32m$\x1b[0m \x1b[1mcdcctl {shlex.join(command)}\x1b[0m\n{_last_state(text)}"


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux raises EIO when the other end is closed
        return b""


def _last_state(text: str) -> str:
    """Replace each line that was redrawn in place by its last state."""
    lines = (line.rsplit("\r", 1)[-1].removeprefix("\x1b[K") for line in text.replace("\r\n", "\n").split("\n"))
    return "\n".join(lines)
