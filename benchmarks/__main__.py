"""``make bench``: runs the modules, prints a table, and writes benchmarks/results/latest.json, latest.md and
docs/performance.md.

``QUICK=1`` makes each module do less. ``--only producer`` (repeatable) runs one module and keeps the last rows of the
others.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from benchmarks import Row, page

MODULES = (
    "producer", "order", "snapshot", "kit", "search", "parquet", "audit", "tail", "way", "shards", "backlog", "sandbox",
)  # fmt: skip
RESULTS = Path(__file__).parent / "results"


def main(arguments: Sequence[str]) -> int:
    """Run the chosen modules; 1 when a module failed (the rows of the others are still written)."""
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("--only", action="append", choices=MODULES, help="run only this module; repeatable")
    only = parser.parse_args(arguments).only
    quick = os.environ.get("QUICK", "") not in ("", "0")
    existing = [name for name in MODULES if find_spec(f"benchmarks.{name}")]
    chosen = [name for name in existing if only is None or name in only]
    results = {} if only is None else _last_rows()
    failed = False
    for name in chosen:
        results = {row: value for row, value in results.items() if not row.startswith(f"{name}.")}
        try:
            for row in _timed(name, quick):
                results[row.name] = _as_dict(row, quick)
        except Exception as error:  # the other modules still run
            print(f"{name}: {error!r}", file=sys.stderr)
            failed = True
    _write(list(results.values()))
    page.main()
    return int(failed)


def _timed(name: str, quick: bool) -> Iterator[Row]:
    print(f"# {name} …", file=sys.stderr)
    started = time.monotonic()
    for row in import_module(f"benchmarks.{name}").rows(quick):
        print(_line(_as_dict(row, quick)))
        yield row
    print(f"# {name}: {time.monotonic() - started:.0f} s", file=sys.stderr)


def _as_dict(row: Row, quick: bool) -> dict[str, object]:
    return {
        "name": row.name, "ours": round(row.ours, 3), "reference": round(row.reference, 3),
        "ratio": round(row.ratio, 3), "unit": row.unit, "better": row.better, "note": row.note, "quick": quick,
    }  # fmt: skip


def _last_rows() -> dict[str, dict[str, object]]:
    try:
        return {row["name"]: row for row in json.loads((RESULTS / "latest.json").read_text())["rows"]}
    except FileNotFoundError:
        return {}


def _line(row: dict[str, object]) -> str:
    cells = (row["name"], f"{row['ours']:,}", f"{row['reference']:,}", row["ratio"], row["unit"], row["note"])
    return f"| {' | '.join(map(str, cells))} |"


def _write(rows: list[dict[str, object]]) -> None:
    RESULTS.mkdir(exist_ok=True)
    machine = {"cores": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
    (RESULTS / "latest.json").write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")
    head = "| row | ours | reference | ratio | unit | note |\n|---|---|---|---|---|---|\n"
    (RESULTS / "latest.md").write_text(head + "".join(f"{_line(row)}\n" for row in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
