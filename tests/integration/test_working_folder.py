"""No child process imports modules from the working folder: neither producer, shard, snapshot worker nor sandbox."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cdcctl.sandbox import aws
from cdckit.runtime.settings import Settings, environ_of
from consumers.kcl import launcher, properties
from producer.service import run
from producer.snapshot.backfill import BackfillRequest, backfill, select_tables
from tests.support.local_aws import Cloud
from tests.support.postgres import Database

pytestmark = pytest.mark.integration
PLANTED = ("boto3", "producer", "consumers", "cdcctl", "ministack")
RECORD = "import pathlib, sys\npathlib.Path({log!r}).open('a').write(__name__ + '\\n')\nsys.exit(99)\n"


class PlantedFolder:
    """A working folder that holds packages named like ours; each records in a file that it was imported."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._log = folder, folder / "imported.txt"
        for name in PLANTED:
            (folder / name).mkdir()
            (folder / name / "__init__.py").write_text(RECORD.format(log=str(self._log)))

    @property
    def imported(self) -> list[str]:
        return self._log.read_text().split() if self._log.exists() else []


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PlantedFolder]:
    (folder := tmp_path / "work").mkdir()
    monkeypatch.chdir(folder)
    made = PlantedFolder(folder)
    yield made
    assert made.imported == []


@pytest.fixture
def settings(postgres: Database, cloud: Cloud, stream: str, tmp_path: Path) -> Settings:
    return Settings(dsn=postgres.dsn, slot=postgres.slot, stream=stream, data=str(tmp_path / "data"))


def test_what_is_planted_is_imported_where_the_working_folder_comes_first(tmp_path: Path) -> None:
    control = PlantedFolder(tmp_path)
    done = subprocess.run([sys.executable, "-m", "producer.cli"], cwd=tmp_path, check=False)
    assert (done.returncode, control.imported) == (99, ["producer"])


def test_the_producer(planted: PlantedFolder, settings: Settings) -> None:
    unreachable = {**os.environ, **environ_of(settings), "CDC_DSN": "host=127.0.0.1 port=1 dbname=none"}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "cdcctl.main", "producer", "run"],
        env=unreachable, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert "127.0.0.1" in done.stderr


def test_a_shard_s_process(planted: PlantedFolder, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CDC_STREAM", settings.stream)
    made = launcher.Launcher(launcher.Launch("audit", settings), print)
    made._lock.close()
    command = properties.parse(made._write_properties().read_text())["executableName"].split(" ")
    done = subprocess.run(
        command, env=made._environ(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.returncode == 0, done.stderr


def test_snapshot_workers(planted: PlantedFolder, settings: Settings, postgres: Database) -> None:
    postgres.run("CREATE TABLE docs (id integer PRIMARY KEY)", "INSERT INTO docs SELECT generate_series(1, 10)")
    stopping = threading.Event()
    producer = threading.Thread(target=run, args=(settings, stopping.is_set))
    producer.start()
    try:
        while not postgres.query(f"SELECT 1 FROM pg_replication_slots WHERE slot_name = '{settings.slot}' AND active"):
            assert producer.is_alive()
            time.sleep(0.1)
        figures, done = backfill(
            settings, BackfillRequest(select_tables(settings, ["docs"])), lambda: False, lambda _figures: None
        )
    finally:
        stopping.set()
        producer.join()
    assert (figures.rows, done) == (10, True)


def test_the_sandbox(planted: PlantedFolder) -> None:
    daemon = aws.create(planted.folder).start()
    assert daemon.alive
    daemon.stop(20)
