"""What `make bench` measures: each row is one ratio, both sides taken in the same run.

A module here has ``rows(quick) -> Iterator[Row]``; ``benchmarks/__main__.py`` runs them all, one after the other.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison. `name` is ``room.what_vs_whom``; `ours` and `reference` are in `unit`.

    `better` says which way is good: ``higher`` (throughput) or ``lower`` (seconds, bytes). `note` is for people.
    """

    name: str
    ours: float
    reference: float
    unit: str
    better: str = "higher"
    note: str = ""

    @property
    def ratio(self) -> float:
        """Ours over the reference."""
        return self.ours / self.reference if self.reference else float("nan")
