"""A search document is what is known of a row (`cdckit.rows`), its values with it."""

from cdckit.rows import NO_POSITION, apply_floor, join, merge, ordered_values
from cdckit.rows import RowState as Document

__all__ = ["NO_POSITION", "Document", "apply_floor", "join", "merge", "ordered_values"]
