"""Forwards the attributes of a module that moved, with a DeprecationWarning that names the new place."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def forward(old: str, new: str, renamed: Mapping[str, str]) -> Callable[[str], Any]:
    """Return a module ``__getattr__`` that looks names of the module `old` up in `new`, where some were `renamed`."""

    def lookup(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {old!r} has no attribute {name!r}")
        current = renamed.get(name, name)
        value = getattr(import_module(new), current)
        warnings.warn(f"{old}.{name} is now {new}.{current}; removed in 0.3", DeprecationWarning, stacklevel=2)
        return value

    return lookup
