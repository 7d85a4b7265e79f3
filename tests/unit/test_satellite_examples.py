"""Runs the examples in the docstrings of the satellites' Python API."""

import doctest
import importlib.util
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import pytest

from cdckit.change import Table
from cdckit.errors import UsageError
from cdckit.sink import SinkContext
from cdckit.testing import change, deliver
from consumers.audit import query as audit
from consumers.audit.sink import open_sink as open_audit
from consumers.parquet import frames
from consumers.parquet.sink import open_sink as open_parquet
from consumers.search import mapping
from consumers.search import query as search
from consumers.search.sink import open_sink as open_search

NAMES = {"Path": Path, "Table": Table, "UTC": UTC, "datetime": datetime}
OPTIONAL = {f"{frames.__name__}.{name}": name for name in ("polars", "pandas")}
PUBLIC = {
    audit: {"history", "as_of", "find", "transaction", "current_rows"},
    frames: {"arrow", "polars", "pandas"},
    search: {"open_index", "request", "search", "stats", "documents"},
    mapping: {"MappedRow"},
}


def examples(module: ModuleType) -> list[doctest.DocTest]:
    found = doctest.DocTestFinder(exclude_empty=True).find(module, extraglobs=NAMES)
    return [test for test in found if test.examples]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the satellites that the examples read, as the current folder."""
    monkeypatch.chdir(tmp_path)
    orders = [change("I", 1, {"status": "paid"}), change("I", 2, {"status": "paid"}, at=2)]
    deliver(open_parquet(SinkContext("parquet", "shard-0", tmp_path / ".cdc/parquet", {"compact": False})), *orders)
    products = [{"name": "blue shirt", "status": "new"}, {"name": "blue hat", "status": "sold"}]
    sink = open_search(SinkContext("search", "shard-0", tmp_path / ".cdc/search"))
    deliver(sink, *(change("I", n, row, table="public.products", at=n) for n, row in enumerate(products, 1)))
    sink.close()
    sink = open_audit(SinkContext("audit", "shard-0", tmp_path / ".cdc/audit"))
    deliver(
        sink,
        change("I", 42, {"status": "new"}, at=1),
        change("U", 42, {"status": "paid"}, at=2, annotation={"actor": "alice"}),
    )
    sink.close()
    return tmp_path


@pytest.mark.parametrize("test", [test for module in PUBLIC for test in examples(module)], ids=lambda test: test.name)
def test_example(data: Path, test: doctest.DocTest) -> None:
    package = OPTIONAL.get(test.name)
    if package is not None and importlib.util.find_spec(package) is None:
        with pytest.raises(UsageError, match=f"{package} is not installed"):
            getattr(frames, package)(data / ".cdc/parquet", "SELECT 1")
        return
    report: list[str] = []
    doctest.DocTestRunner().run(test, out=report.append)
    assert report == []


def test_every_public_name_has_an_example() -> None:
    for module, names in PUBLIC.items():
        assert {test.name.rpartition(".")[2] for test in examples(module)} == names
