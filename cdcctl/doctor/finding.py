"""One finding: what was looked at, how it is, what was found, and the exact deed that mends it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from cdckit.errors import CdcError


class Level(StrEnum):
    """``ok``, ``warning`` (works, but not for long or not for all), ``failed``, ``unknown`` (could not be asked)."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """`mend` is a command or a setting, empty when all is well."""

    name: str
    level: Level
    found: str
    mend: str = ""


def ok(name: str, found: str) -> Finding:
    """All is well."""
    return Finding(name, Level.OK, found)


def warning(name: str, found: str, mend: str) -> Finding:
    """It works, but something will be missing or break."""
    return Finding(name, Level.WARNING, found, mend)


def failed(name: str, found: str, mend: str) -> Finding:
    """It cannot work."""
    return Finding(name, Level.FAILED, found, mend)


def unknown(name: str, found: str, mend: str = "") -> Finding:
    """It could not be asked."""
    return Finding(name, Level.UNKNOWN, found, mend)


def guarded(name: str, check: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """The check's findings; an error of ours becomes a failed finding, so that the other checks still run."""
    try:
        yield from check()
    except CdcError as error:
        yield failed(name, error.message, error.hint)
