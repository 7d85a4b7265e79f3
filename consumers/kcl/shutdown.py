"""Whether a shard's process is to end: asked between the portions of a page, for folded one may be minutes of work."""

from __future__ import annotations

import select
import signal
from types import FrameType

from cdckit.errors import ConsumerError


class DaemonGone(ConsumerError):
    """The daemon ended while a page was worked on: what comes after its last checkpoint belongs to another process."""


class Leaving:
    """True once SIGTERM or SIGINT came: both reach the daemon's whole group, and the daemon ends this process then."""

    def __init__(self, protocol: int) -> None:
        """`protocol` is the file descriptor that the daemon writes to. Takes the two signals."""
        self._asked = False
        self._poll = select.poll()
        self._poll.register(protocol, 0)  # what is always told: that its other end was closed
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask)
            signal.siginterrupt(number, False)

    def __call__(self) -> bool:
        """Raises DaemonGone."""
        if self._poll.poll(0):
            raise DaemonGone("the daemon is gone", "it is started again, and goes on from the last checkpoint")
        return self._asked

    def _ask(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self._asked = True
