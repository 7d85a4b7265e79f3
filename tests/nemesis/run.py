"""One run: the workload and the faults for so long, then everything heals, and the checker asks."""

from __future__ import annotations

import random
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cdcctl.verify.run import open_fence
from cdckit.errors import CdcError
from producer.postgres.connection import Source
from tests.nemesis import faults
from tests.nemesis.checker import Evidence, Finding, Satellite, check
from tests.nemesis.evidence import read_stream, satellite
from tests.nemesis.place import SATELLITES, Place, eventually, placed
from tests.nemesis.timeline import Timeline
from tests.nemesis.truth import read_truth
from tests.nemesis.watch import Watch
from tests.nemesis.workload import Workload
from tests.support.resharding_aws import ReshardingCloud

UP_SECONDS = 300.0
"""For all satellites to come up, on a busy machine."""
HEAL_SECONDS = 300.0
"""For all of them to follow to the end, when everything is healed."""


@dataclass(frozen=True)
class Plan:
    """What to run."""

    seed: int
    seconds: float
    folder: Path
    opensearch: bool = False
    plant: str = ""
    rate: float = 12.0


@dataclass(frozen=True)
class Outcome:
    """What came of it. `repeated` changes are more than once in the stream, which is allowed."""

    plan: Plan
    changes: int
    repeated: int
    transactions: int
    faults: Mapping[str, int]
    restarts: Mapping[str, int]
    proxy: Mapping[str, int]
    recovery: Mapping[str, float | None]
    findings: list[Finding]
    timeline: Timeline


def run(plan: Plan, timeline: Timeline, cloud: ReshardingCloud | None = None) -> Outcome:
    """The whole of it. `cloud` are servers that run already."""
    timeline.add(f"starting servers, seed {plan.seed}")
    with placed(
        plan.folder, plan.seed, timeline, opensearch=plan.opensearch, plant=plan.plant, cloud=cloud
    ) as place, Watch(place) as watch:  # fmt: skip
        work = Workload(place.settings.dsn, plan.seed, plan.rate)
        work.create()
        struck = Counter[str]()
        eventually(lambda: _follows(place), UP_SECONDS, "the satellites follow")
        timeline.add("every satellite follows; the workload and the nemesis begin")
        with _background(lambda ended: work.run(ended.is_set, lambda: watch.full)):
            _trouble(plan, place, watch, struck)
        timeline.add(f"all is healed; {work.transactions} transactions were committed, {work.failed} failed")
        evidence = _collect(place, watch, work, timeline)
    findings = check(evidence)
    timeline.add(f"checked: {len(findings)} findings")
    if not findings:
        shutil.rmtree(plan.folder, ignore_errors=True)
    return Outcome(
        plan, len(evidence.committed), evidence.stream.repeated, work.transactions, dict(struck), dict(place.restarts),
        dict(place.proxy.counts), watch.recovery_seconds(), findings, timeline,
    )  # fmt: skip


def _trouble(plan: Plan, place: Place, watch: Watch, struck: Counter[str]) -> None:
    """Both lanes of faults until the time is over; each fault that began is healed."""
    end = time.monotonic() + plan.seconds
    over = lambda: time.monotonic() > end  # noqa: E731
    strokes = {**faults.STROKES, **(faults.OPENSEARCH if place.opensearch else {})}
    with _background(
        lambda _ended: _Lane(place, watch, struck, random.Random(f"{plan.seed} weather"), faults.WEATHER).run(over)
    ):
        _Lane(place, watch, struck, random.Random(f"{plan.seed} strokes"), strokes).run(over)


def _follows(place: Place) -> bool:
    place.check()
    return place.follow_since(time.time() - 2)


@dataclass
class _Lane:
    """Deals faults from a shuffled deck, so that each kind comes before any comes again."""

    place: Place
    watch: Watch
    struck: Counter[str]
    chance: random.Random
    makers: Mapping[str, faults.Make]

    def run(self, over: Callable[[], bool]) -> None:
        for kind in self._deck():
            self._pause(over)
            if over():
                return
            self._strike(kind)

    def _deck(self) -> Iterator[str]:
        while True:
            yield from self.chance.sample(list(self.makers), len(self.makers))

    def _strike(self, asked: str) -> None:
        fault = self.makers[asked](self.place, self.chance)
        kind = fault.kind or asked
        self.place.timeline.add(fault.what)
        try:
            fault.strike()
            self.struck[kind] += 1
            time.sleep(fault.hold)
        finally:
            fault.heal()
        self.watch.heal(kind)

    def _pause(self, over: Callable[[], bool]) -> None:
        """Some seconds, or until the system has recovered: faults meet a system that is well, and one that is not."""
        patient, until = self.chance.random() < 0.4, time.monotonic() + self.chance.uniform(1, 6)
        longest = time.monotonic() + 20
        while not over() and time.monotonic() < (longest if patient else until):
            self.place.check()
            if patient and time.monotonic() > until and self.watch.recovered:
                return
            time.sleep(0.1)


def _collect(place: Place, watch: Watch, work: Workload, timeline: Timeline) -> Evidence:
    found = [_satellite(place, watch, name, timeline) for name in SATELLITES]
    eventually(lambda: watch.recovered, HEAL_SECONDS, "the last recoveries")
    committed = read_truth(place.settings.dsn)
    audit, seen = read_stream(place.stream)
    return Evidence(committed, work.known, audit, seen, list(watch.samples), found)


def _satellite(place: Place, watch: Watch, name: str, timeline: Timeline) -> Satellite:
    source = Source(place.settings.dsn)
    try:
        passed = open_fence(source, place.settings, name, HEAL_SECONDS, lambda: False).wait()
        found = satellite(place.settings, name, lambda: passed, watch.reports(name))
    except CdcError as error:
        timeline.add(f"{name}: {error}")
        found = Satellite(name, broken=[f"did not come so far: {error}"], reports=watch.reports(name))
    finally:
        source.close()
    timeline.add(f"{name} is compared: {len(found.differences)} differences")
    return found


@contextmanager
def _background(work: Callable[[threading.Event], None]) -> Iterator[None]:
    """Run something beside the block; it is told when the block has ended. What it raised comes out."""
    ended, errors = threading.Event(), list[BaseException]()

    def guarded() -> None:
        try:
            work(ended)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=guarded, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    if errors:
        raise errors[0]
