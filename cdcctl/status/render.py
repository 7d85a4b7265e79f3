"""One look as text: markup for people (60 columns and up), plain values for scripts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from cdcctl.output import escape
from cdcctl.status.advice import DANGER, OK, WARNING, Advice, advise
from cdcctl.status.model import ConsumerState, Failure, Health, ProducerState, ShardState, SlotState, StreamState

_STYLES = {OK: "green", WARNING: "yellow", DANGER: "bold red"}
_MARKS = {OK: "✓", WARNING: "!", DANGER: "✗"}
_NARROW = ("consumer", "shard", "behind", "changes", "dead")
_MIDDLE = (*_NARROW, "lost in", "p50 / p99 to durable")
_COLUMNS = ((110, (*_MIDDLE, "position", "worker")), (72, _MIDDLE), (0, _NARROW))
_UNITS = (("GB", 1024**3), ("MB", 1024**2), ("kB", 1024))


def head(health: Health) -> Iterator[tuple[str, str]]:
    """Source, producer and stream: a label and a line of markup each."""
    yield "source", _failed(health.slot) if isinstance(health.slot, Failure) else _slot(health.source, health.slot)
    if not isinstance(health.slot, Failure):
        yield "producer", _producer(health.slot, health.producer)
    yield "stream", _failed(health.stream) if isinstance(health.stream, Failure) else _stream(health.stream)


def columns(width: int) -> list[str]:
    """The table's columns on a terminal of this width."""
    return next(list(names) for least, names in _COLUMNS if width >= least)


def rows(health: Health, width: int) -> list[list[str]]:
    """A row a shard, markup; a consumer's own figures stand in its first row."""
    found = []
    for one in health.consumers:
        if one.error is not None:
            found.append([escape(one.name), f"[red]{escape(one.error.message)}[/]"])
        current = [shard for shard in one.shards if not shard.ended] or list(one.shards)
        for number, shard in enumerate(current):
            cells = _cells(one, shard, first=number == 0)
            found.append([cells[name] for name in columns(width)])
    return found


def told(advice: Advice) -> Iterator[str]:
    """The one next action, as markup."""
    style = _STYLES[advice.level]
    yield f"[{style}]{_MARKS[advice.level]} {escape(advice.text)}[/]"
    yield f"  next: [bold]{escape(advice.action)}[/]"


def plain(health: Health) -> dict[str, Any]:
    """The whole look for scripts; times in seconds, sizes in bytes."""
    advice = advise(health)
    return {
        "at": datetime.fromtimestamp(health.at, UTC),
        "source": health.source,
        "slot": _or_error(health.slot),
        "producer": None if health.producer is None else asdict(health.producer),
        "stream": _or_error(health.stream),
        "consumers": [
            {**asdict(one), "error": None if one.error is None else _or_error(one.error)["error"],
             "lag": one.lag, "alive": one.alive} for one in health.consumers
        ],
        "advice": asdict(advice),
    }  # fmt: skip


def size(count: float) -> str:
    """Bytes as people read them."""
    unit = next(((name, scale) for name, scale in _UNITS if count >= scale), None)
    return f"{count / unit[1]:.1f} {unit[0]}" if unit else f"{count:.0f} B"


def seconds(count: float | None) -> str:
    """A length of time in its largest fitting unit; ``?`` when unknown."""
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
    kept = f"keeps {size(slot.retained)} of WAL" + (f", {slot.share:.0%} of the limit" if slot.share else "")
    where = f"slot {slot.name} of database {escape(slot.database)}"
    return f"[bold]{escape(source)}[/]: {where} [{_STYLES[slot.level]}]{kept}[/]"


def _producer(slot: SlotState, producer: ProducerState | None) -> str:
    reads = f"reads as process {slot.reader} of PostgreSQL" if slot.reader else "[bold red]does not read[/]"
    line = f"{reads}, {size(slot.behind)} of WAL not yet on the stream"
    if producer is None:
        return line
    counts = f"{producer.changes:,.0f} changes, {producer.refused:,.0f} records refused"
    return f"{line}; {counts}, {producer.failed_requests:,.0f} requests failed"


def _stream(stream: StreamState) -> str:
    closed = f" and {stream.closed_shards} closed" if stream.closed_shards else ""
    epoch = f", epoch {stream.epoch}" if stream.epoch is not None else ", no producer ran yet"
    kept = f"kept {stream.retention_hours} h"
    return f"[bold]{escape(stream.name)}[/]: {stream.status}, {stream.open_shards} open shards{closed}, {kept}{epoch}"


def _cells(one: ConsumerState, shard: ShardState, *, first: bool) -> dict[str, str]:
    alive = "[green]●[/]" if shard.alive else "[dim]○[/]" if shard.ended else "[red]○[/]"
    pending = "?" if shard.pending is None else f"{'' if shard.exact else '~'}{shard.pending:,}"
    style = "green" if (shard.lag or 0) < 10 and shard.lag is not None else "yellow"
    dead = "?" if one.dead_letters is None else f"{one.dead_letters:,}"
    latency = "-" if one.p50_ms is None else f"{one.p50_ms:,.0f} / {one.p99_ms:,.0f} ms"
    return {
        "consumer": escape(one.name) if first else "",
        "shard": f"{alive} {shard.shard.removeprefix('shardId-').lstrip('0') or '0'}",
        "behind": f"[{style}]{seconds(shard.lag)}[/]",
        "changes": pending,
        "dead": ("[red]" + dead + "[/]" if one.dead_letters else dead) if first else "",
        "lost in": "-" if shard.until_loss is None else seconds(shard.until_loss),
        "p50 / p99 to durable": latency if first else "",
        "position": shard.position or "-",
        "worker": escape(shard.owner or "-"),
    }


def sparkline(values: Sequence[float]) -> str:
    """``▁▂▅█``: the values from 0 to their greatest."""
    most = max(values, default=0.0)
    return "".join(_BARS[round(value / most * (len(_BARS) - 1)) if most > 0 else 0] for value in values)


_BARS = "▁▂▃▄▅▆▇█"
