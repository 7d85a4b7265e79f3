"""Renders the state: markup for a terminal of at least 60 columns, and plain values for JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from cdcctl.output import escape, file_size
from cdcctl.status.advice import DANGER, OK, WARNING, Advice, advise
from cdcctl.status.model import ConsumerState, Failure, Health, ProducerState, ShardState, SlotState, StreamState

_STYLES = {OK: "green", WARNING: "yellow", DANGER: "bold red"}
_MARKS = {OK: "✓", WARNING: "!", DANGER: "✗"}
_NARROW = ("consumer", "shard", "behind", "changes", "dead")
_MIDDLE = (*_NARROW, "lost in", "p50 / p99 to durable")
_COLUMNS = ((110, (*_MIDDLE, "position", "worker")), (72, _MIDDLE), (0, _NARROW))


def head(health: Health) -> Iterator[tuple[str, str]]:
    """The lines for source, producer and stream: a label and markup each."""
    yield "source", _failed(health.slot) if isinstance(health.slot, Failure) else _slot(health.source, health.slot)
    if not isinstance(health.slot, Failure):
        yield "producer", _producer(health.slot, health.producer)
    yield "stream", _failed(health.stream) if isinstance(health.stream, Failure) else _stream(health.stream)


def columns(width: int) -> list[str]:
    """The columns of the table on a terminal of this width."""
    return next(list(names) for min_width, names in _COLUMNS if width >= min_width)


def rows(health: Health, width: int) -> list[list[str]]:
    """One row of markup per shard. The first row of a consumer has the figures of the consumer."""
    found = []
    for consumer in health.consumers:
        if consumer.error is not None:
            found.append([escape(consumer.name), f"[red]{escape(consumer.error.message)}[/]"])
        current = [shard for shard in consumer.shards if not shard.ended] or list(consumer.shards)
        for number, shard in enumerate(current):
            cells = _cells(consumer, shard, first=number == 0)
            found.append([cells[name] for name in columns(width)])
    return found


def advice_lines(advice: Advice) -> Iterator[str]:
    """The most urgent problem and the next action, as markup."""
    style = _STYLES[advice.level]
    yield f"[{style}]{_MARKS[advice.level]} {escape(advice.text)}[/]"
    yield f"  next: [bold]{escape(advice.action)}[/]"


def to_json(health: Health) -> dict[str, Any]:
    """The state for scripts; times in seconds, sizes in bytes."""
    advice = advise(health)
    return {
        "at": datetime.fromtimestamp(health.at, UTC),
        "source": health.source,
        "slot": _or_error(health.slot),
        "producer": None if health.producer is None else asdict(health.producer),
        "stream": _or_error(health.stream),
        "consumers": [
            {**asdict(consumer), "error": None if consumer.error is None else _or_error(consumer.error)["error"],
             "lag": consumer.lag, "alive": consumer.alive} for consumer in health.consumers
        ],
        "advice": asdict(advice),
    }  # fmt: skip


def format_seconds(count: float | None) -> str:
    """A duration in its largest fitting unit; ``?`` when unknown."""
    if count is None:
        return "?"
    for limit, scale, unit in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if count < limit:
            return f"{count / scale:.1f} {unit}" if scale == 1 else f"{count / scale:.0f} {unit}"
    return f"{count / 86400:.0f} d"


def _or_error(part: Any) -> dict[str, Any]:
    if isinstance(part, Failure):
        return {"error": {"message": part.message, "hint": part.hint}}
    return {**asdict(part), **({"behind": part.behind} if isinstance(part, SlotState) else {})}


def _failed(part: Failure) -> str:
    return f"[red]{escape(part.message)}[/]"


def _slot(source: str, slot: SlotState) -> str:
    retained = f"retains {file_size(slot.retained)} of WAL" + (f", {slot.share:.0%} of the limit" if slot.share else "")
    where = f"slot {slot.name} of database {escape(slot.database)}"
    return f"[bold]{escape(source)}[/]: {where} [{_STYLES[slot.level]}]{retained}[/]"


def _producer(slot: SlotState, producer: ProducerState | None) -> str:
    reads = f"reads as process {slot.reader} of PostgreSQL" if slot.reader else "[bold red]does not read the slot[/]"
    line = f"{reads}, {file_size(slot.behind)} of WAL not yet on the stream"
    if producer is None:
        return line
    counts = f"{producer.changes:,.0f} changes, {producer.refused:,.0f} records rejected"
    return f"{line}; {counts}, {producer.failed_requests:,.0f} requests failed"


def _stream(stream: StreamState) -> str:
    closed = f" and {stream.closed_shards} closed" if stream.closed_shards else ""
    epoch = f", epoch {stream.epoch}" if stream.epoch is not None else ", no producer has run yet"
    retention = f"retention {stream.retention_hours} h"
    return (
        f"[bold]{escape(stream.name)}[/]: {stream.status}, {stream.open_shards} open shards{closed}, {retention}{epoch}"
    )


def _cells(consumer: ConsumerState, shard: ShardState, *, first: bool) -> dict[str, str]:
    alive = "[green]●[/]" if shard.alive else "[dim]○[/]" if shard.ended else "[red]○[/]"
    pending = "?" if shard.pending is None else f"{'' if shard.exact else '~'}{shard.pending:,}"
    style = "green" if (shard.lag or 0) < 10 and shard.lag is not None else "yellow"
    dead = "?" if consumer.dead_letters is None else f"{consumer.dead_letters:,}"
    latency = "-" if consumer.p50_ms is None else f"{consumer.p50_ms:,.0f} / {consumer.p99_ms:,.0f} ms"
    return {
        "consumer": escape(consumer.name) if first else "",
        "shard": f"{alive} {shard.shard.removeprefix('shardId-').lstrip('0') or '0'}",
        "behind": f"[{style}]{format_seconds(shard.lag)}[/]",
        "changes": pending,
        "dead": ("[red]" + dead + "[/]" if consumer.dead_letters else dead) if first else "",
        "lost in": "-" if shard.until_loss is None else format_seconds(shard.until_loss),
        "p50 / p99 to durable": latency if first else "",
        "position": shard.position or "-",
        "worker": escape(shard.owner or "-"),
    }


def sparkline(values: Sequence[float]) -> str:
    """``▁▂▅█``: the values, scaled from 0 to the greatest."""
    greatest = max(values, default=0.0)
    return "".join(_BARS[round(value / greatest * (len(_BARS) - 1)) if greatest > 0 else 0] for value in values)


_BARS = "▁▂▃▄▅▆▇█"
