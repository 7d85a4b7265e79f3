"""Deprecated: moved to `cdckit.claim_check`; this name is removed in 0.3."""

from __future__ import annotations

from cdckit._moved import forward

_RENAMED = {
    "MOST_BYTES": "MAX_CHANGE_BYTES",
    "Kept": "ObjectReference",
    "kept_in": "decode_reference",
    "restored": "restore",
    "most_packed": "max_object_bytes",
    "weight": "memory_size",
    "reference": "encode_reference",
}
__getattr__ = forward(__name__, "cdckit.claim_check", _RENAMED)
