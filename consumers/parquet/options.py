"""The table ``[consumers.parquet]`` of ``cdc.toml``, checked."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from cdckit.errors import UsageError


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the sink writes. Unknown or unfit keys are refused."""

    url: str = ""
    """Where the lake is instead of the data folder, such as ``s3://bucket/prefix``."""
    buffer_rows: int = 100_000
    """How many changes are held in memory before they are written ahead of the next flush."""

    @classmethod
    def read(cls, table: Mapping[str, object]) -> Options:
        """Check the settings' table. Raises UsageError that names the key."""
        try:
            return msgspec.convert(table, cls)
        except msgspec.ValidationError as error:
            known = ", ".join(cls.__struct_fields__)
            raise UsageError(f"[consumers.parquet]: {error}", f"known keys: {known}") from error
