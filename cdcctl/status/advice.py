"""Finds the most urgent problem with its next action, and violations of a lag limit, in the collected state. No I/O."""

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
    """One problem and its fix. `level` is ok, warning or danger; `action` is the command to run."""

    level: str
    text: str
    action: str


def advise(health: Health) -> Advice:
    """The most urgent problem. Upstream problems come first, because they delay everything downstream."""
    found = [*_upstream(health), *_downstream(health)]
    for level in (DANGER, WARNING):
        if first := next((advice for advice in found if advice.level == level), None):
            return first
    running = [consumer.name for consumer in health.consumers if consumer.name in _VERIFIABLE]
    return Advice(
        OK,
        "no problem found; you can verify that a satellite equals the source",
        f"cdcctl verify {(running or _VERIFIABLE)[0]}",
    )


def lag_problems(health: Health, max_seconds: float) -> list[str]:
    """Every reason why a satellite may be behind by more than `max_seconds`; an unknown lag is also one."""
    found = [part.message for part in (health.slot, health.stream) if isinstance(part, Failure)]
    slot = health.slot
    if not isinstance(slot, Failure) and slot.reader is None and (slot.idle_seconds or max_seconds) >= max_seconds:
        found.append(f"no process reads the slot {slot.name!r}")
    if health.producer is not None and health.producer.lag_seconds > max_seconds:
        found.append(f"the producer is {health.producer.lag_seconds:.0f} s behind")
    for consumer in health.consumers:
        if consumer.error is not None:
            found.append(consumer.error.message)
        elif consumer.lag is None:
            found.append(f"{consumer.name} is behind by an unknown time")
        elif consumer.lag > max_seconds:
            found.append(f"{consumer.name} is {consumer.lag:.0f} s behind")
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
                DANGER, f"no process reads the slot {slot.name!r}: PostgreSQL retains its WAL", "cdcctl producer run"
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
    for consumer in health.consumers:
        yield from _consumer(consumer, hours * 3600.0)


def _consumer(consumer: ConsumerState, retention: float) -> Iterator[Advice]:
    run = f"cdcctl consumer run {consumer.name}"
    if consumer.error is not None:
        yield Advice(DANGER, consumer.error.message, consumer.error.hint)
        return
    left = min((shard.until_loss for shard in consumer.shards if shard.until_loss is not None), default=None)
    if left is not None and left < retention * _NEARLY_LOST:
        yield Advice(
            DANGER, f"changes that {consumer.name} has not read expire on the stream in {left / 3600:.1f} hours",
            f"{run}; and raise the stream's retention: aws kinesis increase-stream-retention-period",
        )  # fmt: skip
    if consumer.stopped and not consumer.alive:
        yield Advice(DANGER, f"{consumer.name} stopped permanently: {consumer.stopped}", f"fix the cause, then {run}")
    elif not consumer.alive:
        yield Advice(WARNING, f"{consumer.name} is not running", run)
    if consumer.dead_letters:
        yield Advice(
            WARNING, f"{consumer.name} has {consumer.dead_letters} dead letters", f"cdcctl dlq ls {consumer.name}"
        )
    if consumer.alive and (consumer.lag or 0) > _SLOW:
        yield Advice(
            WARNING, f"{consumer.name} is {consumer.lag:.0f} s behind",
            f"{run} --workers 2, or on a second machine; or add shards: cdcctl stream reshard",
        )  # fmt: skip
