"""Writes docs/performance.md and its charts from the last results; nothing on the page is written by hand.

Run it with ``python -m benchmarks.page``; `make bench` runs it at its end.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.chart import bars, number_text

ROOT = Path(__file__).parents[1]
_RESULTS, _DOCS = ROOT / "benchmarks" / "results" / "latest.json", ROOT / "docs"
_PEERS = ("_vs_debezium", "_vs_debezium_p50", "_vs_naive", "_vs_pg_recvlogical")
_HEAD = """# Performance

`make bench` generates this page from [benchmarks/results/latest.json](../benchmarks/results/latest.json). One machine
with {cores} cores ({machine}, Python {python}) ran everything: PostgreSQL, the producer, the stream or its stub, and
the peers. Each row is the ratio of two figures from the same run. Compare ratios between machines, not figures.
`QUICK=1 make bench` takes about five minutes (its rows are marked QUICK); `make bench ARGS='--only producer'` measures
one part.

The producers write to a stub that only answers PutRecords, because a local AWS uses a core of its own. Against a
*limit* (the server's own decoding, an engine's own bulk load, `COPY`) a ratio of 1 cannot be reached. Against a *peer*
the ratio should be better than 1.
"""
_TABLE = "| row | ours | other | ratio | better | unit | note |\n|---|---:|---:|---:|---|---|---|\n"
_LEGEND = "**{count}** rows where the other side is ahead, the largest difference first:\n\n"

Rows = Mapping[str, Mapping[str, Any]]


def main() -> None:
    """Write the page and the charts."""
    results = json.loads(_RESULTS.read_text())
    rows = {row["name"]: row for row in results["rows"]}
    pictures = [_picture(name, chart) for name, chart in _charts(rows)]
    peers = [row for name, row in rows.items() if name.endswith(_PEERS)]
    limits = [row for name, row in rows.items() if not name.endswith(_PEERS) and not name.startswith(_GROWTH)]
    growth = [row for name, row in rows.items() if name.startswith(_GROWTH)]
    parts = [
        _HEAD.format(**results["machine"]), *pictures, "## Against peers\n", _table(peers), "## Against limits\n",
        _table(limits), "## Scaling\n", _table(growth), "## Where others are ahead\n", _behind([*peers, *limits]),
    ]  # fmt: skip
    (_DOCS / "performance.md").write_text("\n".join(parts))


_GROWTH = ("backlog.", "shards.", "sandbox.")


_DRAINS = (
    ("server's own decoding", "decoding"),
    ("pg_recvlogical, to a file", "pg_recvlogical"),
    ("Debezium Server, best", "debezium"),
    ("put_record loop", "naive"),
)
_BOTH = (("this producer", "ours"), ("Debezium Server, best", "reference"))


def _charts(rows: Rows) -> Iterable[tuple[str, str]]:
    for kind, title in (("", "Many small transactions"), ("huge_", "One large transaction")):
        rates = [("this producer", f"producer.{kind}throughput_vs_decoding", "ours")]
        rates += [(label, f"producer.{kind}throughput_vs_{peer}", "reference") for label, peer in _DRAINS]
        yield f"bench-{kind}throughput".replace("_", "-"), _chart(rows, title, "changes/s", rates)
    for what, title, unit in (
        ("producer.cpu_vs_debezium", "CPU of the producer", "seconds per million changes"),
        ("producer.rss_vs_debezium", "Memory of the producer", "MB"),
        (
            "order.violations_vs_debezium",
            "Changes of a key out of order, with a fifth of the entries rejected",
            "changes",
        ),
    ):
        name = what.partition(".")[2].partition("_")[0]
        yield f"bench-{name}", _chart(rows, title, unit, [(label, what, side) for label, side in _BOTH])
    latency = [
        (f"{name} {share}", f"way.{name}_commit_to_durable_{share}", "ours")
        for name in ("search", "audit", "replica", "parquet")
        for share in ("p50", "p99")
    ]
    yield "bench-way", _chart(rows, "Commit to durable in the satellite, 200 changes/s", "ms", latency)


def _chart(rows: Rows, title: str, unit: str, wanted: Sequence[tuple[str, str, str]]) -> str:
    present = [(label, float(rows[name][side])) for label, name, side in wanted if name in rows]
    return bars(title, unit, present) if any(value for _, value in present) else ""


def _picture(name: str, chart: str) -> str:
    path = _DOCS / f"{name}.svg"
    if not chart:
        path.unlink(missing_ok=True)
        return ""
    path.write_text(chart)
    return f"![{name.replace('-', ' ')}]({path.name})\n"


def _table(rows: Iterable[Mapping[str, Any]]) -> str:
    return _TABLE + "".join(
        f"| {row['name']} | {number_text(row['ours'])} | {number_text(row['reference'])} | {row['ratio']:.3g} "
        f"| {row['better']} | {row['unit']} | {_note(row)} |\n"
        for row in rows
    )


def _note(row: Mapping[str, Any]) -> str:
    """The row's note; QUICK marks a shorter run."""
    return "; ".join(filter(None, (row["note"], "QUICK" if row.get("quick") else "")))


def _behind(rows: Iterable[Mapping[str, Any]]) -> str:
    behind = sorted([row for row in rows if _gain(row) < 1], key=_gain)
    return _LEGEND.format(count=len(behind)) + _table(behind)


def _gain(row: Mapping[str, Any]) -> float:
    """Above 1: we are better than the other side."""
    if row["better"] == "higher":
        return float(row["ratio"])
    return float(row["reference"]) / float(row["ours"]) if row["ours"] else float("inf")


if __name__ == "__main__":
    main()
