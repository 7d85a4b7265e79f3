"""The package installs light: the SDK needs only its own dependencies, and a missing extra is one clear line."""

import ast
import os
import subprocess
import sys
import tomllib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import pytest

from cdckit.runtime.extras import EXTRAS_OF_MODULE

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PACKAGE_OF_MODULE = {"amazon_kclpy": "amazon-kclpy", "botocore": "boto3", "opensearchpy": "opensearch-py",
                     "prometheus_client": "prometheus-client", "psycopg2": "psycopg2-binary"}  # fmt: skip
OURS = {"cdckit", "producer", "consumers", "cdcctl"}
ABSENT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {modules!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
"""


def run(code: str, absent: Collection[str], *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process in which these modules are not installed."""
    command = [sys.executable, "-P", "-c", ABSENT.format(modules=set(absent)) + code, *arguments]
    return subprocess.run(
        command, env={**os.environ, **environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )


def program(package: str) -> str:
    """What its console script runs."""
    return f"from {package}.__main__ import main; main()"


@pytest.mark.parametrize(
    ("package", "arguments", "absent", "module", "extra"),
    [
        ("cdcctl", ["--help"], ["typer", "rich"], "typer", "cli"),
        ("cdcctl", ["slot", "ls"], ["psycopg2"], "psycopg2", "producer"),
        ("cdcctl", ["parquet", "ls"], ["pyarrow", "deltalake", "duckdb"], "deltalake", "parquet"),
        ("cdcctl", ["audit", "verify"], ["cryptography"], "cryptography", "audit"),
        ("producer", [], ["boto3", "botocore", "psycopg2", "isal"], "boto3", "producer"),
        ("consumers", ["search"], ["amazon_kclpy"], "amazon_kclpy", "consumers"),
        ("consumers", ["parquet"], ["pyarrow"], "pyarrow", "parquet"),
        ("consumers", ["audit"], ["cryptography"], "cryptography", "audit"),
    ],
)
def test_a_missing_extra_is_one_line_and_its_command(
    package: str, arguments: list[str], absent: list[str], module: str, extra: str
) -> None:
    found = run(program(package), absent, *arguments)
    assert found.returncode == 2
    assert found.stdout == ""
    assert found.stderr == (
        f"error: the Python package {module!r} is not installed: it belongs to the extra {extra!r}\n"
        f"hint:  pip install 'cdckit[{extra}]' (or 'cdckit[all]')\n"
    )


@pytest.mark.parametrize(
    ("sink", "options", "absent", "extra"),
    [
        ("search", {"engine": "opensearch", "url": "http://127.0.0.1:1"}, "opensearchpy", "search-opensearch"),
        ("replica", {"dsn": "host=127.0.0.1 port=1"}, "psycopg2", "replica-postgres"),
    ],
)
def test_a_satellite_whose_engine_is_missing_says_so_when_it_is_opened(
    sink: str, options: Mapping[str, str], absent: str, extra: str, tmp_path: Path
) -> None:
    code = f"""
from pathlib import Path
from cdckit.errors import UsageError
from cdckit.sink import SinkContext
from consumers.{sink}.sink import open_sink
try:
    open_sink(SinkContext({sink!r}, "shard", Path({str(tmp_path)!r}), {options!r}))
except UsageError as error:
    print(error.hint)
"""
    found = run(code, [absent])
    assert found.stderr == ""
    assert found.stdout == f"pip install 'cdckit[{extra}]' (or 'cdckit[all]')\n"


def test_another_missing_module_is_not_called_an_extra() -> None:
    found = run(program("producer"), ["argparse"])
    assert found.returncode == 1
    assert "ModuleNotFoundError: No module named 'argparse'" in found.stderr
    assert "cdckit[" not in found.stderr


def test_the_sdk_imports_only_what_the_light_package_installs() -> None:
    assert third_party("cdckit") <= {package(line) for line in PROJECT["dependencies"]}


@pytest.mark.parametrize(
    ("folder", "extras"),
    [
        ("producer", ["producer"]),
        ("consumers/kcl", ["consumers"]),
        ("consumers/worker", ["consumers"]),
        ("consumers/stream", ["consumers"]),
        ("consumers/filters", ["consumers"]),
        ("consumers/replay", ["consumers"]),
        ("consumers/dead_letters", ["consumers"]),
        ("consumers/search", ["search-opensearch"]),
        ("consumers/parquet", ["parquet"]),
        ("consumers/audit", ["audit"]),
        ("consumers/replica", ["replica-postgres"]),
        ("cdcctl", ["cli", "local", "parquet"]),
    ],
)
def test_an_extra_brings_what_its_code_imports(folder: str, extras: list[str]) -> None:
    declared = {package(line) for extra in extras for line in PROJECT["optional-dependencies"][extra]}
    missing = {PACKAGE_OF_MODULE.get(name, name) for name in third_party(folder)} - declared - {"msgspec"}
    assert not missing


def test_every_optional_module_names_its_extras() -> None:
    extras = PROJECT["optional-dependencies"]
    for module, named in EXTRAS_OF_MODULE.items():
        name = PACKAGE_OF_MODULE.get(module, module)
        bringing = {extra for extra, lines in extras.items() if name in map(package, lines) and extra != "dev"}
        assert set(named) == bringing


def test_all_has_every_extra_of_a_running_system() -> None:
    [everything] = PROJECT["optional-dependencies"]["all"]
    assert set(everything.removeprefix("cdckit[").removesuffix("]").split(",")) == set(
        PROJECT["optional-dependencies"]
    ) - {"all", "local", "dev"}


def package(line: str) -> str:
    """The package that a requirement names."""
    return line.partition(">")[0].partition("[")[0]


def third_party(folder: str) -> set[str]:
    """The modules outside the standard library and this project that the folder's code imports when it runs."""
    names = {name for path in (ROOT / folder).rglob("*.py") for name in imported(path)}
    return names - set(sys.stdlib_module_names) - OURS


def imported(path: Path) -> Iterator[str]:
    """Top-level names of the modules that a file imports, except for type checking."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(inner) for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }  # fmt: skip
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]
