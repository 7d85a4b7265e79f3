"""From one look: is all well, is a limit on lag exceeded, and the one next action; pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cdcctl.status.model import ConsumerState, Failure, Health, StreamState

_NEARLY_LOST = 0.25  # of the retention
_SLOW = 60.0
OK, WARNING, DANGER = "ok", "warning", "danger"

_VERIFIABLE = ["search", "parquet", "audit", "replica"]


@dataclass(frozen=True, slots=True)
class Advice:
    """`level` is ok, warning or danger; `action` the command (or deed) that helps."""

    level: str
    text: str
    action: str


def advise(health: Health) -> Advice:
    """The most urgent of what is wrong, upstream first: what is broken there makes all below it late."""
    found = [*_upstream(health), *_downstream(health)]
    for level in (DANGER, WARNING):
        if first := next((one for one in found if one.level == level), None):
            return first
    running = [one.name for one in health.consumers if one.name in _VERIFIABLE]
    return Advice(
        OK, "all is well; prove that a satellite equals the source", f"cdcctl verify {(running or _VERIFIABLE)[0]}"
    )


def exceeded(health: Health, most_seconds: float) -> list[str]:
    """Where a satellite may be further behind its source than `most_seconds`; what is unknown counts as that."""
    found = [part.message for part in (health.slot, health.stream) if isinstance(part, Failure)]
    slot = health.slot
    if not isinstance(slot, Failure) and slot.reader is None and (slot.idle_seconds or most_seconds) >= most_seconds:
        found.append(f"nobody reads the slot {slot.name!r}")
    if health.producer is not None and health.producer.lag_seconds > most_seconds:
        found.append(f"the producer is {health.producer.lag_seconds:.0f} s behind")
    for one in health.consumers:
        if one.error is not None:
            found.append(one.error.message)
        elif one.lag is None or one.lag > most_seconds:
            found.append(
                f"{one.name} is " + ("behind by an unknown time" if one.lag is None else f"{one.lag:.0f} s behind")
            )
    return found


def _upstream(health: Health) -> Iterator[Advice]:
    slot, stream, producer = health.slot, health.stream, health.producer
    if isinstance(slot, Failure):
        yield Advice(DANGER, slot.message, slot.hint)
    else:
        if slot.level != OK:
            yield Advice(slot.level, slot.text, slot.hint)
        if slot.reader is None:
            yield Advice(
                DANGER, f"nobody reads the slot {slot.name!r}: changes wait in PostgreSQL's WAL", "cdcctl producer run"
            )
    if isinstance(stream, Failure):
        yield Advice(DANGER, stream.message, stream.hint)
    if producer is not None and producer.lag_seconds > _SLOW:
        yield Advice(
            WARNING, f"the producer is {producer.lag_seconds:.0f} s behind ({producer.refused:.0f} records refused)",
            "cdcctl stream reshard --shards N, or cdcctl producer run --aggregate",
        )  # fmt: skip


def _downstream(health: Health) -> Iterator[Advice]:
    if not health.consumers and isinstance(health.stream, StreamState):
        yield Advice(WARNING, "no consumer has run yet", "cdcctl consumer run --all")
    hours = health.stream.retention_hours if isinstance(health.stream, StreamState) else 24
    for one in health.consumers:
        yield from _of(one, hours * 3600.0)


def _of(one: ConsumerState, retention: float) -> Iterator[Advice]:
    run = f"cdcctl consumer run {one.name}"
    if one.error is not None:
        yield Advice(DANGER, one.error.message, one.error.hint)
        return
    left = min((shard.until_loss for shard in one.shards if shard.until_loss is not None), default=None)
    if left is not None and left < retention * _NEARLY_LOST:
        yield Advice(
            DANGER, f"the stream drops changes that {one.name} has not read in {left / 3600:.1f} hours",
            f"{run}; and raise the stream's retention: aws kinesis increase-stream-retention-period",
        )  # fmt: skip
    if one.stopped and not one.alive:
        yield Advice(DANGER, f"{one.name} gave up: {one.stopped}", f"mend that, then {run}")
    elif not one.alive:
        yield Advice(WARNING, f"{one.name} does not run", run)
    if one.dead_letters:
        yield Advice(WARNING, f"{one.name} has {one.dead_letters} dead letters", f"cdcctl dlq ls {one.name}")
    if one.alive and (one.lag or 0) > _SLOW:
        yield Advice(
            WARNING, f"{one.name} is {one.lag:.0f} s behind",
            f"{run} --workers 2, or on a second machine; or more shards: cdcctl stream reshard",
        )  # fmt: skip
