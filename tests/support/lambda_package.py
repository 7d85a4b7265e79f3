"""Fixture plugin: the Lambda function's zip, built once, for the interpreter and machine at hand."""

import os
import platform
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

BUILDER = Path(__file__).parents[2] / "scripts" / "lambda_package.py"
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
ARCH = {"x86_64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}[platform.machine()]


@dataclass(frozen=True)
class Package:
    """The zip, and the folder that it was unpacked into."""

    zip: Path
    folder: Path


def build(out: Path, *arguments: str, **environ: str) -> Path:
    """Build as `make package` does."""
    command = [sys.executable, str(BUILDER), "--arch", ARCH, "--python", VERSION, "--out", str(out), *arguments]
    built = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environ}, check=False)
    assert built.returncode == 0, built.stderr
    return Path(built.stdout.strip())


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    """The zip, and its contents as Lambda lays them out."""
    folder = tmp_path_factory.mktemp("package")
    made = build(folder)
    with zipfile.ZipFile(made) as archive:
        archive.extractall(folder / "task")
    return Package(made, folder / "task")
