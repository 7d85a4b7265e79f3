"""A history of one table, and the rows that a replica has after it."""

from cdckit.testing import change

HISTORY = [
    change("I", 1, {"a": "one", "big": "toast"}, at=1),
    change("U", 1, {"a": "two"}, at=2),  # big is unchanged TOAST
    change("I", 2, {"a": "x", "big": "y"}, at=3),
    change("D", 2, at=4),
    change("I", 3, {"a": "before", "big": "gone"}, at=5),
    change("T", at=6),
    change("I", 1, {"a": "again", "big": "fresh"}, at=7),
    change("U", 1, {"a": "last"}, at=8),
    change("I", 2, {"a": "new", "big": None}, at=9),
    change("I", 4, {"a": "in one transaction", "big": "b"}, at=10, index=0),
    change("U", 4, {"a": "updated"}, at=10, index=1),
    change("D", 4, at=10, index=2),
]
EXPECTED = [(1, "last", "fresh"), (2, "new", None)]
