"""The class-data archive: made once, trusted only when it is ours, and never needed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from consumers.kcl import class_archive, java

FAKE = """#!/bin/sh
echo run >> {calls}
for word in "$@"; do case $word in -XX:SharedArchiveFile=*) archive=${{word#*=}};; esac; done
{then}
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "cdckit"


def fake_java(tmp_path: Path, then: str) -> str:
    program = tmp_path / "bin" / "java"
    program.parent.mkdir()
    program.write_text(FAKE.format(calls=tmp_path / "calls", then=then))
    program.chmod(0o755)
    return str(program)


def calls(tmp_path: Path) -> int:
    return len((tmp_path / "calls").read_text().split())


def test_it_is_made_once_and_found(cache: Path, tmp_path: Path) -> None:
    program = fake_java(tmp_path, 'echo made > "$archive"')
    assert class_archive.find(program) is None
    assert class_archive.make(program) == ""
    assert class_archive.make(program) == ""
    assert calls(tmp_path) == 1
    found = class_archive.find(program)
    assert found is not None
    assert found.parent == cache
    assert [one.suffix for one in sorted(cache.iterdir())] == [".jsa", ".lock"]
    assert class_archive.start_making(program) is None
    Path(program).write_text(Path(program).read_text() + "# another Java\n")
    assert class_archive.find(program) is None


@pytest.mark.parametrize("then", ['echo half > "$archive"; echo no room >&2; exit 1', "exit 0"])
def test_a_failure_is_explained_and_not_tried_again_at_each_start(cache: Path, tmp_path: Path, then: str) -> None:
    program = fake_java(tmp_path, then)
    assert program in class_archive.make(program)
    assert class_archive.find(program) is None
    assert class_archive.start_making(program) is None
    assert [one.suffix for one in sorted(cache.iterdir())] == [".failed", ".lock"]


def test_an_archive_that_others_may_write_is_not_used(cache: Path, tmp_path: Path) -> None:
    program = fake_java(tmp_path, 'echo made > "$archive"')
    class_archive.make(program)
    cache.chmod(0o777)
    assert class_archive.find(program) is None
    assert "others may write" in class_archive.make(program)
    cache.chmod(0o700)
    for archive in cache.glob("*.jsa"):
        archive.chmod(0o666)
    assert class_archive.find(program) is None


def test_the_command_says_why_and_ends_well_without_it(tmp_path: Path) -> None:
    program = fake_java(tmp_path, "echo no room >&2; exit 1")
    done = subprocess.run(
        [sys.executable, "-m", "consumers.kcl.class_archive", program],
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert "no room" in done.stderr


def test_java_runs_without_an_archive_that_is_damaged(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.jsa"
    damaged.write_bytes(b"nothing of the kind" * 1000)
    command = [java.find_java(), *java.FLAGS, *class_archive.flags(damaged), "-version"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
