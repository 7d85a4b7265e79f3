"""`cdcctl consumer run --config PATH`: the process that the KCL starts for a shard reads the same file."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from cdcctl.consumer import cli
from cdcctl.main import build
from consumers.kcl.launcher import Launch, Launcher


def launched(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Launch:
    seen: list[Launch] = []

    def supervise(launches: Sequence[Launch]) -> int:
        seen.extend(launches)
        return 0

    monkeypatch.setattr(cli, "supervise", supervise)
    build()(["consumer", "run", "search", *arguments], standalone_mode=False)
    return seen[0]


def environ_of_child(launch: Launch) -> dict[str, str]:
    made = Launcher.__new__(Launcher)
    made._launch, made._take_over = launch, False
    return made._environ()


def test_the_flag_s_file_is_the_child_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CDC_CONFIG", "another.toml")
    (tmp_path / "mine.toml").write_text('[consumers.search]\ntable = "public.orders"\n')
    monkeypatch.chdir(tmp_path)
    launch = launched(monkeypatch, "--config", "mine.toml")
    assert launch.settings.options("search") == {"table": "public.orders"}
    assert environ_of_child(launch)["CDC_CONFIG"] == str(tmp_path / "mine.toml")


def test_without_the_flag_the_environment_is_left_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.toml").write_text("")
    monkeypatch.setenv("CDC_CONFIG", str(tmp_path / "mine.toml"))
    assert environ_of_child(launched(monkeypatch))["CDC_CONFIG"] == str(tmp_path / "mine.toml")
