"""Calls ``cdcctl`` in this process: quicker than a process of its own, and the same but for that."""

import json
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest

from cdcctl.main import build


@dataclass(frozen=True)
class Called:
    """How a call ended, and what it printed."""

    status: int
    stdout: str
    stderr: str

    @property
    def objects(self) -> list[Any]:
        """The lines of stdout, as JSON."""
        return [json.loads(line) for line in self.stdout.splitlines()]


@dataclass(frozen=True)
class Caller:
    """Calls ``cdcctl ARGUMENTS``."""

    capsys: pytest.CaptureFixture[str]

    def __call__(self, *arguments: str, status: int | None = 0) -> Called:
        """`status` is what it must end with; None: any."""
        self.capsys.readouterr()
        ended = _commands()(list(arguments), standalone_mode=False)
        printed = self.capsys.readouterr()
        called = Called(ended or 0, printed.out, printed.err)
        assert status is None or called.status == status, called
        return called


@cache
def _commands() -> Any:
    """The command tree: to build it takes half a second."""
    return build()


@pytest.fixture
def cdcctl(capsys: pytest.CaptureFixture[str]) -> Caller:
    """``cdcctl``, in this process's environment."""
    return Caller(capsys)
