"""Reads and checks ``[consumers.audit]`` of ``cdc.toml``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cdckit.errors import UsageError


@dataclass(frozen=True, slots=True)
class AuditOptions:
    """Where anchors, segments and keys are stored (empty: the log's folder), and how often chains are anchored."""

    anchors: str = ""
    anchor_seconds: float = 60.0
    anchor_lock_days: int = 0
    segments: str = ""
    keys: str = ""

    @classmethod
    def read(cls, options: Mapping[str, object]) -> AuditOptions:
        """Check a settings table. Raises UsageError that names the key."""
        known = {"anchors": str, "anchor_seconds": float, "anchor_lock_days": int, "segments": str, "keys": str}
        own = {name: value for name, value in options.items() if name != "flush_seconds"}
        for name, value in own.items():
            if name not in known:
                raise UsageError(f"[consumers.audit] has the unknown key {name!r}", f"known: {', '.join(known)}")
            if not _fits(value, known[name]):
                raise UsageError(f"[consumers.audit] {name} cannot be {value!r}", "see docs/audit.md")
        return cls(**own)  # type: ignore[arg-type]

    def key_folder(self, folder: Path) -> Path:
        """The folder of the signing keys."""
        return Path(self.keys).expanduser() if self.keys else folder / "keys"


def _fits(value: object, kind: type) -> bool:
    if kind is str:
        return isinstance(value, str)
    numbers = (int,) if kind is int else (int, float)
    return isinstance(value, numbers) and not isinstance(value, bool) and value >= 0
