"""Deprecated: moved to `cdckit.runtime.signals`; this name is removed in 0.3."""

from __future__ import annotations

from cdckit._moved import forward

_RENAMED = {"Stopping": "StopFlag"}
__getattr__ = forward(__name__, "cdckit.runtime.signals", _RENAMED)
