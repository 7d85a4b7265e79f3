"""The system under test: PostgreSQL, a Kinesis that splits, the producer behind a proxy, every satellite's daemon.

Whatever ends is started again, as systemd does it with the units in deploy/. Nothing is mocked.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import boto3

from cdcctl.demo.child_processes import ChildProcesses
from cdcctl.sandbox.postgres import Cluster
from cdckit.errors import CdcError
from cdckit.runtime.settings import Settings, resolve
from consumers.worker.status import Report, read_reports
from tests.nemesis.timeline import Timeline
from tests.nemesis.truth import SLOT, open_slots
from tests.support.fault_proxy import FaultProxy
from tests.support.opensearch import JARS, Node, running_opensearch
from tests.support.postgres import running_cluster
from tests.support.processes import descendants
from tests.support.resharding_aws import ReshardingCloud, running_resharding_aws

SATELLITES = ("search", "parquet", "audit", "replica")
_PROGRAM = "tests.nemesis.part"
_STREAM, _SLOT = "nemesis", "cdc"
_RESTART_SECONDS = 0.5
_QUICK_SECONDS, _MOST_QUICK_ENDS = 10.0, 12
_KEPT = ("CDC_PG_BIN", "CDC_CHAOS", "CDC_SEED")


@dataclass
class Place:
    """One run's servers and processes. `environ` is what makes any `cdcctl` use them."""

    folder: Path
    cluster: Cluster
    cloud: ReshardingCloud
    proxy: FaultProxy
    settings: Settings
    environ: Mapping[str, str]
    timeline: Timeline
    opensearch: Node | None = None
    restarts: Counter[str] = field(default_factory=Counter)
    _quick: Counter[str] = field(default_factory=Counter)
    _started: dict[str, float] = field(default_factory=dict)
    _ended: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        logs = self.folder / "logs"
        self._consumers = ChildProcesses(logs, self.environ, _PROGRAM)
        self._producer = ChildProcesses(logs, {**self.environ, "AWS_ENDPOINT_URL_KINESIS": self.proxy.url}, _PROGRAM)
        self._keeper = threading.Thread(target=self._keep, daemon=True)
        self.open_shards = self._shards()

    @property
    def stream(self) -> str:
        """The stream's name."""
        return self.settings.stream

    def start(self) -> None:
        """Start every part, and start again what ends."""
        for name in ("producer", *SATELLITES):
            self._start(name)
        self._keeper.start()

    def check(self) -> None:
        """Raises CdcError when a part does not come up at all."""
        for name, times in self._quick.items():
            if times > _MOST_QUICK_ENDS:
                self._parts(name).check()
                raise CdcError(f"{name} ended {times} times in a row", f"see {self.folder / 'logs'}")

    def stop(self) -> None:
        """End every part, gracefully."""
        self._ended.set()
        self._keeper.join()
        for parts in (self._producer, self._consumers):
            parts.stop()

    def pids(self, name: str) -> Sequence[int]:
        """A part's processes: its `cdcctl` first; of a consumer then its daemon, then that one's children."""
        daemon = self._parts(name).running[name]
        return descendants(daemon.pid) if daemon.alive else []

    def reports(self) -> Mapping[str, Sequence[Report]]:
        """What the shards of each satellite say of themselves."""
        return {name: read_reports(self.folder, name) for name in SATELLITES}

    def follow_since(self, moment: float) -> bool:
        """Whether every satellite has read every open shard to its end since then (to half a second)."""
        return all(
            {one.shard for one in reports if one.updated >= moment and one.millis_behind == 0} >= self.open_shards
            for reports in self.reports().values()
        )

    def split(self, number: int) -> None:
        """Split an open shard."""
        self.cloud.split(self.stream, number)
        self.open_shards = self._shards()

    def merge(self, number: int) -> None:
        """Merge two neighbours."""
        self.cloud.merge(self.stream, number)
        self.open_shards = self._shards()

    def _shards(self) -> set[str]:
        return {shard["ShardId"] for shard in self.cloud.open_shards(self.stream)}

    def _parts(self, name: str) -> ChildProcesses:
        return self._producer if name == "producer" else self._consumers

    def _start(self, name: str) -> None:
        parts, self._started[name] = self._parts(name), time.monotonic()
        if name == "producer":  # each start takes the other way
            parts.environ = {**parts.environ, "CDC_AGGREGATE": "yes" if self.restarts[name] % 2 else "no"}
        parts.start(name, ["producer", "run"] if name == "producer" else ["consumer", "run", name])

    def _keep(self) -> None:
        while not self._ended.wait(0.1):
            for name in ("producer", *SATELLITES):
                daemon = self._parts(name).running[name]
                daemon.reap()
                if not daemon.alive and not self._ended.wait(_RESTART_SECONDS):
                    self.restarts[name] += 1
                    quick = time.monotonic() - self._started[name] < _QUICK_SECONDS
                    self._quick[name] = self._quick[name] + 1 if quick else 0
                    self.timeline.add(f"{name} had ended and is started again")
                    self._start(name)


@contextmanager
def placed(
    folder: Path, seed: int, timeline: Timeline, *, opensearch: bool = False, plant: str = "",
    cloud: ReshardingCloud | None = None,
) -> Iterator[Place]:  # fmt: skip
    """Servers that run, and a stream and two slots; no part runs yet. This process gets the variables too.

    `plant` names a bug of `tests.nemesis.planted` that the parts are to have.
    """
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "logs").mkdir(parents=True)
    with ExitStack() as stack:
        if cloud is None:
            cloud = stack.enter_context(running_resharding_aws(folder))
        node = stack.enter_context(_node(folder)) if opensearch and (JARS / ".installed").exists() else None
        cluster = stack.enter_context(running_cluster())
        open_slots(cluster.dsn, SLOT, _SLOT)
        proxy = stack.enter_context(FaultProxy(cloud.kinesis, seed))
        environ = {
            "PYTHONPATH": str(Path(__file__).parents[2]),  # children run with -P, which leaves the working folder out
            **cloud.environ, "CDC_DATA": str(folder), "CDC_CONFIG": str(folder / "cdc.toml"), "CDC_DSN": cluster.dsn,
            "CDC_STREAM": cloud.make_stream(f"{_STREAM}-{os.getpid()}-{time.time_ns()}"), "CDC_SLOT": _SLOT,
            "CDC_CHECKPOINT_SECONDS": "1", "CDC_TEST_PLANT": plant,
        }  # fmt: skip
        environ["CDC_APP_PREFIX"] = environ["CDC_STREAM"]
        text = _options(node)
        (folder / "cdc.toml").write_text(text)
        stack.enter_context(_environment(environ))
        settings, _ = resolve({}, os.environ, text)
        place = Place(folder, cluster, cloud, proxy, settings, environ, timeline, node)
        stack.callback(place.stop)
        place.start()
        yield place


@contextmanager
def _node(folder: Path) -> Iterator[Node]:
    (folder / "opensearch").mkdir()
    with running_opensearch(folder / "opensearch") as node:
        yield node


def _options(node: Node | None) -> str:
    search = {"engine": "sqlite"} if node is None else node.options()
    lines = [f"{name} = {value!r}" for name, value in search.items()]
    return "\n".join(["[consumers.search]", *lines, "", "[consumers.parquet]", "flush_seconds = 1", ""])


@contextmanager
def _environment(environ: Mapping[str, str]) -> Iterator[None]:
    """The variables in this process, in place of all others of ours and AWS's, until the block ends."""
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith(("AWS_", "CDC_")) and name not in _KEPT]:
        del os.environ[name]
    os.environ.update(environ)
    boto3.DEFAULT_SESSION = None
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        boto3.DEFAULT_SESSION = None


def eventually(done: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait for something. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.1)
