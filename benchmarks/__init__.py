"""The measurements of `make bench`: each row is one ratio, with both sides measured in the same run.

A module here has ``rows(quick) -> Iterator[Row]``; ``benchmarks/__main__.py`` runs them one after the other.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison. `name` is ``module.what_vs_reference``; `ours` and `reference` are in `unit`.

    `better` is ``higher`` (throughput) or ``lower`` (seconds, bytes). `note` is for the reader of the table.
    """

    name: str
    ours: float
    reference: float
    unit: str
    better: str = "higher"
    note: str = ""

    @property
    def ratio(self) -> float:
        """Ours divided by the reference."""
        return self.ours / self.reference if self.reference else float("nan")
