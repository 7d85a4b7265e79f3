"""Turns PostgreSQL's names, which may be anything, into safe and reversible names of folders and columns.

A folder name keeps lower-case ASCII letters, digits and ``_``. Every other run of bytes becomes ``_xHH..._`` (UTF-8):
``a/b`` is ``a_x2F_b``. So no name can leave its folder, look like a folder of Delta's, or differ from another name only
by case. A column name also keeps upper-case letters, and gets a suffix if it then differs from another one only by
case. The field's metadata contains the original name.
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
    """A name as one folder of a path: lower-case ASCII, without separators, never ``.`` or ``..``."""
    return _escape(_PATH_UNSAFE, name)


def original_name(part: str) -> str:
    """The inverse of `path_part`. Raises ValueError when `part` is not a result of it."""
    name = _ESCAPE.sub(lambda escape: bytes.fromhex(escape[1]).decode(), part)
    if path_part(name) != part:
        raise ValueError(f"not a folder of this lake: {part!r}")
    return name


def table_path(source: str, table: Table) -> str:
    """A table's path below the lake's root, such as ``main/public/orders``."""
    return "/".join(path_part(name) for name in (source, table.schema, table.name))


def column_name(name: str, taken: Collection[str], variant: str = "") -> str:
    """A name for a new column that differs from each name in `taken` by more than case.

    `variant` distinguishes a second column for the same PostgreSQL column: its type.
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
