"""The result of one check: its name, its level, what was found, and the fix."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from cdckit.errors import CdcError


class Level(StrEnum):
    """``ok``, ``warning`` (works, but with a risk or a gap), ``failed``, ``unknown`` (could not be checked)."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check. `fix` is a command or a setting, empty when no action is required."""

    name: str
    level: Level
    found: str
    fix: str = ""


def ok(name: str, found: str) -> Finding:
    """A check that passed."""
    return Finding(name, Level.OK, found)


def warning(name: str, found: str, fix: str) -> Finding:
    """It works now, but something will be missing or fail later."""
    return Finding(name, Level.WARNING, found, fix)


def failed(name: str, found: str, fix: str) -> Finding:
    """A check that failed: the pipeline cannot work."""
    return Finding(name, Level.FAILED, found, fix)


def unknown(name: str, found: str, fix: str = "") -> Finding:
    """A check that could not be made."""
    return Finding(name, Level.UNKNOWN, found, fix)


def run_check(name: str, check: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """Yield the check's findings. A CdcError becomes a failed finding, so that the other checks still run."""
    try:
        yield from check()
    except CdcError as error:
        yield failed(name, error.message, error.hint)
