"""What is deployed beside the templates: systemd units, the image's entry point, the locks."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
DEPLOY = ROOT / "deploy"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    """With a program that is there in the place of ours."""
    names = {"cdc-producer.service": "cdc-producer.service", "cdc-consumer@.service": "cdc-consumer@search.service"}
    for file, name in names.items():
        text = re.sub(r"ExecStart=\S+", "ExecStart=/bin/true", (DEPLOY / "systemd" / file).read_text())
        (tmp_path / name).write_text(text)
    said = subprocess.run(
        ["systemd-analyze", "verify", *(str(tmp_path / name) for name in names.values())],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (said.returncode, said.stderr) == (0, "")


def run(tmp_path: Path, script: str, **environ: str) -> str:
    command = [str(DEPLOY / "entrypoint.sh"), "sh", "-c", script]
    done = subprocess.run(
        command,
        env={"PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path), **environ},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_the_entry_point_makes_the_settings_file_that_only_its_user_reads(tmp_path: Path) -> None:
    toml = '[consumers.parquet]\nurl = "s3://b/$HOME %s"'
    told = run(tmp_path, 'cat "$CDC_CONFIG"; echo "left: ${CDC_TOML:-nothing}"', CDC_TOML=toml)
    assert told == f"{toml}\nleft: nothing\n"
    assert (tmp_path / "cdc.toml").stat().st_mode & 0o777 == 0o600


def test_without_settings_the_entry_point_only_starts_the_command(tmp_path: Path) -> None:
    assert run(tmp_path, 'echo "${CDC_CONFIG:-none}"') == "none\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["lambda", "image"])
def test_the_smaller_locks_have_the_versions_of_the_large_one(name: str) -> None:
    """`make lock` makes all of them at once."""
    whole = pinned("requirements.lock")
    assert pinned(f"requirements-{name}.lock") <= whole
    assert len(pinned(f"requirements-{name}.lock")) > 5


def pinned(file: str) -> set[str]:
    return set(re.findall(r"(?m)^([\w.-]+==[\w.+-]+)", (ROOT / file).read_text()))
