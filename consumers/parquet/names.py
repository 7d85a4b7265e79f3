"""Names in the lake: reversible and harmless, whatever PostgreSQL allows in a name.

A path part keeps lower-case ASCII letters, digits and ``_``; every other run of bytes becomes ``_xHH..._`` (UTF-8, so
``a/b`` is ``a_x2F_b``): no name can leave its folder, pass for Delta's own, or differ from another only by case. A
column keeps upper-case letters too; where that would differ from another only by case it gets a suffix, and its field's
metadata says whose it is.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from cdckit.change import Table

_PATH_UNSAFE = re.compile(r"(?:[^a-z0-9_]|_(?=x)|^_(?=delta_log$))+")
_COLUMN_UNSAFE = re.compile(r"(?:[^A-Za-z0-9_]|_(?=x))+")
_ESCAPE = re.compile(r"_x((?:[0-9A-F]{2})+)_")


def _escape(unsafe: re.Pattern[str], name: str) -> str:
    return unsafe.sub(lambda run: f"_x{run[0].encode().hex().upper()}_", name)


def path_part(name: str) -> str:
    """A name as one folder of a path: ASCII, one case, no separators, never ``.`` or ``..``."""
    return _escape(_PATH_UNSAFE, name)


def original(part: str) -> str:
    """Undo `path_part`. Raises ValueError when `part` was not made by it."""
    name = _ESCAPE.sub(lambda escape: bytes.fromhex(escape[1]).decode(), part)
    if path_part(name) != part:
        raise ValueError(f"not a folder of this lake: {part!r}")
    return name


def table_path(source: str, table: Table) -> str:
    """Where a table lies below the lake's root: ``main/public/orders``."""
    return "/".join(path_part(name) for name in (source, table.schema, table.name))


def column_name(name: str, taken: Collection[str], variant: str = "") -> str:
    """A name for a new column that differs from all of `taken` by more than case.

    `variant` is what a second column for the same PostgreSQL column is told apart by: its type.
    """
    base = _escape(_COLUMN_UNSAFE, name)
    folded = {other.casefold() for other in taken}
    if variant and base.casefold() in folded:
        base = f"{base}__{_escape(_COLUMN_UNSAFE, variant)}"
    candidate, number = base, 1
    while candidate.casefold() in folded:
        number += 1
        candidate = f"{base}_x_{number}"
    return candidate
