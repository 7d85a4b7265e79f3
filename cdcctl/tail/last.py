"""Finds the last N changes. Kinesis cannot be read backwards, so this reads from earlier and earlier positions."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

from consumers.filters.feed import Feed, FeedItem
from consumers.stream.points import Point
from consumers.stream.probe import Probe
from consumers.stream.start import EARLIEST, StartPosition

_STEPS_BACK = (timedelta(seconds=30), timedelta(minutes=10), timedelta(hours=3))


def last_changes(
    feed_from: Callable[[StartPosition], Feed], count: int, since: Point | None, probe: Probe
) -> tuple[Feed, list[FeedItem]]:
    """The last `count` selected changes in commit order, and the feed that continues after them.

    With `since` earlier changes are ignored. Raises StreamError.
    """
    now = datetime.now(UTC)
    starts = (
        [StartPosition.at(now - back) for back in _STEPS_BACK] + [EARLIEST]
        if since is None
        else [probe.start_for(since, now)]
    )
    for start in starts:
        feed = feed_from(start)
        feed.reader.stop_when_caught_up = True
        found = heapq.nlargest(count, _all(feed), key=_commit_order)
        if len(found) >= count or feed.reader.stop_requested():
            break
    return feed, found[::-1]


def _all(feed: Feed) -> Iterable[FeedItem]:
    for _, found in feed.batches():
        yield from found


def _commit_order(seen: FeedItem) -> tuple[datetime, str]:
    if seen.change is None:
        return seen.arrived, ""
    return seen.change.commit_time, seen.change.position.sort_key
