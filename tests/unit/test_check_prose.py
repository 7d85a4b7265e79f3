"""The check of the project's language finds whole words in any form, with their place, and nothing else."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "check_prose.py"


def check(folder: Path, **files: str) -> subprocess.CompletedProcess[str]:
    """Run a copy of the script in a repository that has these files."""
    repository = folder / "repository"
    (repository / "scripts").mkdir(parents=True)
    (repository / "scripts" / "check_prose.py").write_bytes(SCRIPT.read_bytes())
    for name, text in files.items():
        (repository / name.replace("__", ".")).write_text(text)
    subprocess.run(["git", "init", "--quiet", str(repository)], check=True)
    command = [sys.executable, "-P", str(repository / "scripts" / "check_prose.py")]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("word", ["mends", "Whoever", "so  many", "at the\nmost", "is told", "anew"])  # prose: allowed
def test_a_banned_word_is_reported_with_its_place(tmp_path: Path, word: str) -> None:
    found = check(tmp_path, page__md=f"first line\nsecond {word} line\n")
    assert found.returncode == 1
    assert found.stdout.startswith(f"page.md:2: {' '.join(word.split())} (use: ")
    assert len(found.stdout.splitlines()) == 1


def test_words_that_only_contain_one_are_fine(tmp_path: Path) -> None:
    found = check(tmp_path, page__md="recommended, indeed, renewed, foretells\n", module__py="# amended\n")
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


def test_a_marked_line_and_the_history_in_the_changelog_are_left_alone(tmp_path: Path) -> None:
    found = check(
        tmp_path,
        module__py='NAME = "nobody"  # prose: allowed\n',
        CHANGELOG__md="# Changelog\n\n## [0.1.0]\n\n- fixed\n\n## [0.0.9]\n\n- mended\n",  # prose: allowed
    )
    assert (found.returncode, found.stdout) == (0, "")


def test_what_git_ignores_and_other_kinds_of_files_are_not_read(tmp_path: Path) -> None:
    found = check(tmp_path, __gitignore="ignored.md\n", ignored__md="anew\n", data__json="anew\n")  # prose: allowed
    assert (found.returncode, found.stdout) == (0, "")
