"""Images for the docs: commands run on a terminal of their own, as a user sees them, while the demo's parts work."""

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

SHOTS: Mapping[str, Sequence[Sequence[str]]] = {
    "tail": [("tail", "-n", "6", "--no-follow", "--tx"), ("tail", "-n", "3", "--no-follow", "--diff", "--lag")],
    "replay": [
        ("replay", "audit", "--from", "10m", "--to", "1m", "--dry-run"),
        ("replay", "audit", "--from", "earliest", "--into", "look"),
    ],
    "verify": [("verify", "search")],
}
_ROWS = 60
_OVERRULE = ("COLUMNS", "LINES", "NO_COLOR")


def save_shots(folder: Path, environ: Mapping[str, str], columns: int = output.SVG_COLUMNS) -> None:
    """Write ``NAME.svg`` for each of them; what they make is gone afterwards."""
    whole = {name: str(Path(environ[name]).absolute()) for name in ("CDC_DATA", "CDC_CONFIG")}
    with tempfile.TemporaryDirectory() as place:
        for name, commands in SHOTS.items():
            shown = [shot(command, {**environ, **whole}, Path(place), columns) for command in commands]
            output.save_svg(output.as_printed("\n".join(shown)), folder / f"{name}.svg", f"cdcctl {name}", columns)


def shot(command: Sequence[str], environ: Mapping[str, str], place: Path, columns: int) -> str:
    """What ``cdcctl COMMAND`` shows on a terminal this wide, its colours in it; it runs in the folder `place`."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, columns, 0, 0))
    told = {**os.environ, **environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", "TZ": "UTC"}
    told = {name: value for name, value in told.items() if name not in _OVERRULE}  # the terminal itself says
    with subprocess.Popen(
        module_command("cdcctl.main", *command), env=told, cwd=place, stdin=slave, stdout=slave, stderr=slave
    ):  # fmt: skip
        os.close(slave)
        text = b"".join(iter(lambda: _read(master), b"")).decode(errors="replace")
    os.close(master)
    return f"\x1b[1;32m$\x1b[0m \x1b[1mcdcctl {shlex.join(command)}\x1b[0m\n{_settled(text)}"


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # the other end is closed: Linux says EIO
        return b""


def _settled(text: str) -> str:
    """A line that was drawn over again and again stands as it was at last."""
    lines = (line.rsplit("\r", 1)[-1].removeprefix("\x1b[K") for line in text.replace("\r\n", "\n").split("\n"))
    return "\n".join(lines)
