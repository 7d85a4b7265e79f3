"""A search document is what is known of a row (`cdckit.rows`), its values with it."""

from cdckit.rows import NOWHERE, above, join, merge, ordered
from cdckit.rows import RowState as Document

__all__ = ["NOWHERE", "Document", "above", "join", "merge", "ordered"]
