"""Histories of rows for tests of the search satellite, with every kind of change that a database can make."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

from cdckit.change import Change
from cdckit.testing import change

TABLE = "public.orders"
HOSTILE = [
    "\x00\x01\x02\x03 nul", "x" * 1_000_000, "\u05e9\u05dc\u05d5\u05dd \u202e\u05e2\u05d5\u05dc\u05dd\u202c",
    "\U0001f469\u200d\U0001f467 \U0001f3f3\ufe0f", '"} AND NOT * (', "<script>alert(1)</script>",
    "</mark><img src=x onerror=alert(1)>", "\ufdd0mark\ufdd1", '{"query":{"match_all":{}}}', "a\u0300" * 5000,
    "\ufeffbom", "", "word " * 300_000,
]  # fmt: skip
"""Hostile texts: control characters, a word of a megabyte, right to left, emoji, query syntax, HTML, our own marks."""


@dataclass(frozen=True)
class Step:
    """One change without its source: the operation, the row, the position, and whether it carries all columns."""

    op: str
    key: int | None
    at: int
    index: int = 0
    epoch: int = 1
    whole: bool = True

    def change(self, source: str, word: str) -> Change:
        """The change; `word` is in the title of every row, so that a search finds only these rows."""
        title = {"title": f"{word} t{self.at}x{self.index}"}
        body = {"body": f"b{self.at}x{self.index}"} if self.whole else {}
        after = {**title, **body} if self.op in ("I", "U") else None
        return change(
            self.op, self.key, after, at=self.at, index=self.index, epoch=self.epoch, table=TABLE, source=source
        )


@st.composite
def histories(draw: st.DrawFn, max_changes: int = 14) -> list[Step]:
    """Changes of three rows: inserts, updates (sometimes without unchanged TOAST), deletes, key changes, several
    changes of a row in one transaction, truncates, and a new epoch whose LSNs start again."""
    alive: set[int] = set()
    history: list[Step] = []
    epoch, at = 1, 0
    for _ in range(draw(st.integers(1, max_changes))):
        kind = draw(st.sampled_from("iuuuddkkttte" if alive else "iiie"))
        if kind == "e":
            epoch, at = epoch + 1, 0
            continue
        same = kind != "t" and history and history[-1].epoch == epoch and draw(st.booleans())
        at, index = (history[-1].at, history[-1].index + 1) if same else (at + 1, 0)
        free = sorted({1, 2, 3} - alive)
        row = draw(st.sampled_from(sorted(alive))) if alive else None
        if kind == "t":
            history.append(Step("T", None, at, index, epoch))
            alive.clear()
        elif kind == "k" and free and row:
            fresh = draw(st.sampled_from(free))
            history += [Step("D", row, at, index, epoch), Step("I", fresh, at, index + 1, epoch)]
            alive = (alive - {row}) | {fresh}
        elif (kind == "i" or row is None) and free:
            fresh = draw(st.sampled_from(free))
            history.append(Step("I", fresh, at, index, epoch))
            alive.add(fresh)
        elif kind == "d" and row:
            history.append(Step("D", row, at, index, epoch))
            alive.discard(row)
        elif row:
            history.append(Step("U", row, at, index, epoch, whole=draw(st.booleans())))
    return history


def batches(draw: st.DataObject, steps: Sequence[Step]) -> list[list[Step]]:
    """The steps in any order, some twice, in batches of any size."""
    order = list(draw.draw(st.permutations(steps)))
    if steps:
        order += draw.draw(st.lists(st.sampled_from(steps), max_size=5))
    cuts = sorted(draw.draw(st.sets(st.integers(1, len(order)), max_size=4))) if order else []
    edges = [0, *cuts, len(order)]
    return [order[a:b] for a, b in itertools.pairwise(edges) if a < b]
