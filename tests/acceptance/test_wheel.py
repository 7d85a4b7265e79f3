"""The package as `pip install` gives it: the wheel in an empty environment, run from an empty folder, no checkout."""

import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(900)]


def pip(python: Path, *arguments: str) -> None:
    """Run pip there; what it printed is the failure's message."""
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "-q", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr}"


def locked_versions(path: Path) -> str:
    """The lock file as constraints: the versions, with the platforms that each is for, without the hashes."""
    lines = re.findall(r"^([\w.-]+==[^\s\\]+(?: ;[^\\\n]+)?)", path.read_text(), re.MULTILINE)
    assert len(lines) > 50
    return "\n".join(lines) + "\n"


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The Python of an environment that holds the wheel and its dependencies, and nothing else."""
    # a copy: setuptools packs what an earlier build left in build/ too
    shutil.copytree(ROOT, tmp_path / "source", ignore=shutil.ignore_patterns(".*", "build", "dist", "*.egg-info"))
    source = str(tmp_path / "source")
    pip(Path(sys.executable), "wheel", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), source)
    [wheel] = tmp_path.glob("*.whl")
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    pip(python, "install", "--require-hashes", "-r", str(ROOT / "requirements-build.lock"))
    (tmp_path / "locked.txt").write_text(locked_versions(ROOT / "requirements.lock"))
    pip(python, "install", "--no-build-isolation", "-c", str(tmp_path / "locked.txt"), f"{wheel}[all,local]")
    return python


def test_the_wheel_runs_the_demo_from_an_empty_folder(installed: Path, folder: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "CDC_", "PYTHON"))}
    where = [str(installed), "-c", "import cdckit; print(cdckit.__file__)"]
    place = subprocess.run(where, cwd=folder, env=environ, capture_output=True, text=True, check=True).stdout
    assert not Path(place.strip()).is_relative_to(ROOT)
    done = subprocess.run(
        [installed.parent / "cdcctl", "demo"],
        cwd=folder, env=environ, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "all satellites equal the database" in done.stderr
