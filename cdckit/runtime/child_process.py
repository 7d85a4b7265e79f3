"""Builds the commands of child Python processes, so that none imports modules from the working folder.

``python -m`` puts the working folder first on the module search path: a folder with a file ``boto3.py`` would have that
file run, with the database's password in its environment. ``-P`` (Python 3.11) leaves the working folder out.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

SAFE_PATH = "-P"


def module_command(module: str, *arguments: str) -> Sequence[str]:
    """The command that runs a module of ours with this interpreter and these arguments."""
    return [sys.executable, SAFE_PATH, "-m", module, *arguments]
