"""Runs ``cdcctl`` as a user does."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path


def run_cdcctl(
    *arguments: str, environ: Mapping[str, str], folder: Path, timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run ``cdcctl`` in `folder`, with no CDC_ and AWS_ variables except those of `environ`."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("CDC_", "AWS_"))}
    return subprocess.run(
        [sys.executable, "-m", "cdcctl.main", *arguments],
        env={**clean, **environ}, cwd=folder, capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip
