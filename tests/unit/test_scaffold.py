"""`cdcctl consumer new`: what it writes works as it is."""

import subprocess
import sys
from pathlib import Path

import pytest

from cdcctl.consumer.scaffold import write_package
from cdckit.errors import UsageError
from consumers.kcl.properties import parse


def test_the_package_passes_its_own_tests(tmp_path: Path) -> None:
    made = write_package("slack-alerts", tmp_path / "slack-alerts")
    assert {path.name for path in made} == {
        "pyproject.toml", "README.md", "slack_alerts.py", "test_slack_alerts.py", "slack-alerts.properties",
    }  # fmt: skip
    assert not any("@" in path.read_text().replace("@pytest", "") for path in made)
    properties = parse((tmp_path / "slack-alerts" / "slack-alerts.properties").read_text())
    assert properties["executableName"] == "cdc-consumer slack-alerts"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path / "slack-alerts", capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "3 passed" in done.stdout, done.stdout + done.stderr


def test_nothing_is_overwritten_and_names_are_checked(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").write_text("keep")
    with pytest.raises(UsageError, match="not empty"):
        write_package("mine", tmp_path / "mine")
    for name in ("Slack", "../x", "a_b", "", "-x"):
        with pytest.raises(UsageError, match="cannot be a consumer's name"):
            write_package(name, tmp_path / "other")
