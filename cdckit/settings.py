"""Deprecated: moved to `cdckit.runtime.settings`; this name is removed in 0.3."""

from __future__ import annotations

from cdckit._moved import forward

_RENAMED = {
    "Origin": "SettingValue",
    "yes": "is_yes",
    "masked": "mask_password",
    "texts": "descriptions",
    "lists": "list_settings",
    "names": "setting_names",
}
__getattr__ = forward(__name__, "cdckit.runtime.settings", _RENAMED)
