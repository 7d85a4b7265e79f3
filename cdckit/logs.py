"""Deprecated: moved to `cdckit.runtime.logs`; this name is removed in 0.3."""

from __future__ import annotations

from cdckit._moved import forward

_RENAMED = {"hush": "quiet_libraries"}
__getattr__ = forward(__name__, "cdckit.runtime.logs", _RENAMED)
