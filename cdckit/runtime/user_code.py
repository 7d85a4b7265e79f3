"""Imports the user's own code: a sink that ``--sink`` names, a transform that ``cdc.toml`` names."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from importlib import import_module
from typing import Any


def load_object(path: str) -> Any:
    """The object at ``module:name``; the module may be in the working folder.

    The working folder is searched last, so no file in it replaces an installed package. Raises what the import raises,
    AttributeError for an unknown name, ValueError for an empty module.
    """
    module, _, name = path.partition(":")
    with suppress(FileNotFoundError):  # the working folder was deleted
        if (folder := os.getcwd()) not in sys.path:
            sys.path.append(folder)
    return getattr(import_module(module), name)
