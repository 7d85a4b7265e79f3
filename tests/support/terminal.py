"""Runs ``cdcctl`` on a pseudo-terminal, as a user sees it."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from select import select

INTERRUPT = "\x03"
"""Ctrl-C."""
_STYLES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
# makes the terminal the controlling one, so that Ctrl-C reaches the process
_EXEC = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)


@dataclass(frozen=True)
class Session:
    """The exit status, and everything that the terminal received, without its styles."""

    status: int
    text: str


def on_terminal(
    arguments: Sequence[str],
    folder: Path,
    answers: Sequence[tuple[str, str]] = (),
    environ: Mapping[str, str] | None = None,
    columns: int = 100,
) -> Session:
    """Run ``cdcctl ARGUMENTS`` in `folder`. Each of `answers` is a text to wait for, and what is typed then."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    variables = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    command = [sys.executable, "-c", _EXEC, "-m", "cdcctl.main", *arguments]
    with subprocess.Popen(
        command, env={**variables, "TERM": "xterm-256color", **(environ or {})}, cwd=folder,
        stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
    ) as process:  # fmt: skip
        os.close(slave)
        try:
            text = _converse(master, answers)
        finally:
            process.kill()  # when the test gave up
            os.close(master)
    return Session(process.returncode, text)


def _converse(terminal: int, answers: Sequence[tuple[str, str]]) -> str:
    text, remaining, start, typed, deadline = "", list(answers), 0, "", time.monotonic() + 60
    while True:
        if not select([terminal], [], [], 2.0)[0]:
            assert time.monotonic() < deadline, f"no more output: {text!r}"
            if typed == INTERRUPT:  # lost when it came between readline's prompt and its wait
                os.write(terminal, typed.encode())
            continue
        try:
            data = os.read(terminal, 65536)
        except OSError:  # Linux raises EIO when the other end is closed
            data = b""
        if not data:
            assert not remaining, f"{remaining[0][0]!r} never came: {text!r}"
            return text
        text = _STYLES.sub("", text + data.decode(errors="replace"))
        if remaining and remaining[0][0] in text[start:]:
            start, typed = len(text), remaining.pop(0)[1]
            os.write(terminal, typed.encode())
