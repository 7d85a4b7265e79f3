"""Lists words that this project does not use in code, comments, messages and docs (CONTRIBUTING.md, "How to write").

    python scripts/check_prose.py [PATH ...]

Prints one line per word, ``file:line: word (use …)``, and exits with 1 when there is any. Without arguments it reads
every file of the repository that Git knows. A line that must contain such a word (a foreign name, a quotation) ends
with the comment ``prose: allowed``.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SUFFIXES = frozenset((".py", ".md", ".toml", ".yaml", ".yml", ".sh", ".properties", ".service", ".sql", ".txt"))
NAMES = frozenset(("Makefile", "Dockerfile"))
SKIPPED = frozenset(("LICENSE", "scripts/check_prose.py"))
GENERATED_FROM_CODE = frozenset(("docs/commands.md", "docs/performance.md", "benchmarks/results/latest.md"))
ALLOWED = "prose: allowed"
OLDEST_CHECKED_VERSION = "## [0.1.0]"  # entries of older versions in CHANGELOG.md are history and stay as they are
WORDS = {
    r"mend(?:s|ed|ing)?": "fix",
    r"whoever": "the user, the caller, or who it is",
    r"anew": "again",
    r"so\s+many": "at most n, or a number",
    r"be\s+it": "whether … or …",
    r"nobody": "no one, no process, or who it is not",
    r"(?:is|are|was|were)\s+told": "is reported, is printed",
    r"tells": "reports, prints, shows",
    r"in\s+the\s+midst": "during",
    r"stands\s+with": "is with",
    r"shall\s+be": "is, must be",
    r"of\s+its\s+own\s+accord": "by itself",
    r"for\s+good": "permanently",
    r"at\s+the\s+most": "at most",
    r"by\s+and\s+by": "gradually, later",
    r"befall(?:s|en)?|befell": "happen to",
    r"heed(?:s|ed|ing)?": "follow",
    r"deeds?": "action",
}
_BANNED = re.compile(r"\b(?:" + "|".join(f"(?P<w{n}>{word})" for n, word in enumerate(WORDS)) + r")\b", re.IGNORECASE)
_INSTEAD = list(WORDS.values())


def findings(name: str, text: str) -> Iterator[str]:
    """One line of report per banned word in `text`, the content of the file `name`."""
    if name == "CHANGELOG.md":
        text = _without_history(text)
    lines = text.splitlines()
    for match in _BANNED.finditer(text):
        number = text.count("\n", 0, match.start())
        if ALLOWED not in lines[number]:
            instead = _INSTEAD[int((match.lastgroup or "w0")[1:])]
            yield f"{name}:{number + 1}: {' '.join(match[0].split())} (use: {instead})"


def files(root: Path) -> list[str]:
    """The names of the repository's files that hold prose, tracked or new, without what Git ignores."""
    command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\0")
    return sorted(name for name in set(names) if _holds_prose(name) and (root / name).is_file())


def main(arguments: Sequence[str]) -> int:
    """Check the files named in `arguments`, else the whole repository."""
    try:
        names = [name for name in arguments if _holds_prose(name)] if arguments else files(ROOT)
        reports = [line for name in names for line in findings(name, (ROOT / name).read_text(encoding="utf-8"))]
    except (OSError, UnicodeDecodeError, subprocess.CalledProcessError) as error:
        sys.stderr.write(f"error: cannot read the repository's files: {error}\n")
        return 2
    sys.stdout.writelines(f"{line}\n" for line in reports)
    if reports:
        sys.stderr.write(f"{len(reports)} banned words; CONTRIBUTING.md says how to write\n")
    return 1 if reports else 0


def _holds_prose(name: str) -> bool:
    path = Path(name)
    return name not in SKIPPED | GENERATED_FROM_CODE and (path.suffix in SUFFIXES or path.name in NAMES)


def _without_history(text: str) -> str:
    start = text.find(OLDEST_CHECKED_VERSION)
    following = text.find("\n## ", start + 1) if start >= 0 else -1
    return text if following < 0 else text[:following]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
