"""Defines the kinds of fault: how each is injected and healed, after which the system must recover."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from tests.nemesis.place import SATELLITES, Place
from tests.support.fault_proxy import Faults
from tests.support.processes import kill
from tests.support.waiting import wait_until

_RESTART_SECONDS = 300.0  # within which a part is started again on a busy machine
_MOST_SHARDS = 3


def _nothing() -> None:
    """Nothing to heal."""


@dataclass(frozen=True)
class Fault:
    """One fault: `strike`, wait `hold` seconds, `heal`, which returns when the affected part runs again.

    `kind` is the actual kind, where it may differ from the requested one.
    """

    what: str
    strike: Callable[[], None]
    heal: Callable[[], None] = _nothing
    hold: float = 0.0
    kind: str = ""


Make = Callable[[Place, random.Random], Fault]
DAEMON, CHILD = 1, 2  # their indexes in Place.pids of a consumer


def kill_producer(place: Place, chance: random.Random) -> Fault:
    return _kill(place, "producer", 0)


def pause_producer(place: Place, chance: random.Random) -> Fault:
    return _pause(place, "producer", 0, chance.uniform(1, 8))


def kill_consumer(place: Place, chance: random.Random) -> Fault:
    """Kill the launcher, its daemon and all children at once, as when a host fails."""
    return _kill(place, chance.choice(SATELLITES), 0)


def kill_daemon(place: Place, chance: random.Random) -> Fault:
    return _kill(place, chance.choice(SATELLITES), DAEMON)


def pause_daemon(place: Place, chance: random.Random) -> Fault:
    return _pause(place, chance.choice(SATELLITES), DAEMON, chance.uniform(1, 8))


def kill_child(place: Place, chance: random.Random) -> Fault:
    return _kill(place, chance.choice(SATELLITES), CHILD)


def pause_child(place: Place, chance: random.Random) -> Fault:
    return _pause(place, chance.choice(SATELLITES), CHILD, chance.uniform(1, 8))


def kill_postgres(place: Place, chance: random.Random) -> Fault:
    """Shut down immediately: no checkpoint, recovery from the WAL at the next start."""
    return Fault(
        "PostgreSQL: immediate shutdown",
        lambda: place.cluster.stop("immediate"),
        place.cluster.start,
        chance.uniform(0, 3),
    )


def kill_opensearch(place: Place, chance: random.Random) -> Fault:
    node = place.opensearch
    assert node is not None
    return Fault("kill OpenSearch", node.kill, node.start, chance.uniform(0, 5))


def split(place: Place, chance: random.Random) -> Fault:
    """Split a shard; merge two instead when there are too many."""
    if len(place.open_shards) >= _MOST_SHARDS:
        return merge(place, chance)
    number = chance.randrange(len(place.open_shards))
    return Fault(f"split open shard {number}", lambda: place.split(number), kind="shard split")


def merge(place: Place, chance: random.Random) -> Fault:
    """Merge two shards; split instead when there is only one."""
    if len(place.open_shards) < 2:
        return split(place, chance)
    number = chance.randrange(len(place.open_shards) - 1)
    return Fault(f"merge open shards {number} and {number + 1}", lambda: place.merge(number), kind="shards merged")


def weather(what: str, faults: Callable[[random.Random], Faults], seconds: tuple[float, float] = (3, 10)) -> Make:
    """Faults between the producer and Kinesis, for a random time in `seconds`."""

    def make(place: Place, chance: random.Random) -> Fault:
        chosen = faults(chance)
        return Fault(what, lambda: _set(place, chosen), lambda: _set(place, Faults()), chance.uniform(*seconds))

    return make


STROKES: Mapping[str, Make] = {
    "producer killed": kill_producer,
    "producer paused": pause_producer,
    "consumer killed": kill_consumer,
    "daemon killed": kill_daemon,
    "daemon paused": pause_daemon,
    "child killed": kill_child,
    "child paused": pause_child,
    "PostgreSQL killed": kill_postgres,
    "shard split": split,
    "shards merged": merge,
}
"""Faults of processes and shards, injected one after the other."""
OPENSEARCH: Mapping[str, Make] = {"OpenSearch killed": kill_opensearch}
"""Faults of OpenSearch, used if it runs."""
WEATHER: Mapping[str, Make] = {
    "entries rejected": weather("a third of all entries is rejected", lambda _: Faults(reject=0.35)),
    "throttled": weather("half of all requests are throttled", lambda _: Faults(throttle=0.5)),
    "connections dropped": weather("connections are dropped", lambda _: Faults(drop=0.4)),
    "slow": weather("answers are late", lambda chance: Faults(delay=chance.uniform(0.5, 3.0), reject=0.1)),
    "server errors": weather("Kinesis fails", lambda _: Faults(error=0.5)),
    "stalled": weather("Kinesis does not answer", lambda _: Faults(stalled=True), (1, 5)),
    "credentials expired": weather("credentials expire", lambda _: Faults(expired=frozenset(["local"]))),
}
"""Faults between the producer and Kinesis, injected in parallel with the strokes."""


def _set(place: Place, faults: Faults) -> None:
    place.proxy.faults = faults


def _kill(place: Place, name: str, depth: int) -> Fault:
    """Kill one process; the whole consumer if it is the launcher."""
    struck: list[int] = []

    def strike() -> None:
        found = _found(place, name, depth)
        struck.append(found[depth])
        kill(*(found if depth == 0 else struck))

    def heal() -> None:
        last = 0 if name == "producer" else max(depth, DAEMON)
        wait_until(lambda: _another(place.pids(name), depth, last, struck), _RESTART_SECONDS, f"{name} starts again")

    return Fault(f"kill {_called(name, depth)}", strike, heal)


def _pause(place: Place, name: str, depth: int, seconds: float) -> Fault:
    paused: list[int] = []

    def strike() -> None:
        paused.append(_found(place, name, depth)[depth])
        _signal(paused, signal.SIGSTOP)

    return Fault(
        f"pause {_called(name, depth)} for {seconds:.1f} s", strike, lambda: _signal(paused, signal.SIGCONT), seconds
    )


def _found(place: Place, name: str, depth: int) -> Sequence[int]:
    """Wait until the part has a process of this depth, and return its processes."""
    wait_until(lambda: len(place.pids(name)) > depth, _RESTART_SECONDS, f"{_called(name, depth)} runs")
    return place.pids(name)


def _another(pids: Sequence[int], depth: int, last: int, before: Sequence[int]) -> bool:
    return len(pids) > last and pids[depth] not in before


def _called(name: str, depth: int) -> str:
    return name if depth == 0 else f"{name}'s {('daemon', 'child')[depth - 1]}"


def _signal(pids: Sequence[int], number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
