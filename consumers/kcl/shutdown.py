"""Detects that a shard's process should end. Asked between portions: a page of folded records may take minutes."""

from __future__ import annotations

import select
import signal
from types import FrameType

from cdckit.errors import ConsumerError


class DaemonGone(ConsumerError):
    """The daemon ended while a page was processed: records after its last checkpoint belong to another process."""


class StopRequest:
    """True once SIGTERM or SIGINT arrived. Both reach the daemon's whole group, and the daemon ends this process."""

    def __init__(self, protocol: int) -> None:
        """Handles the two signals from now on. `protocol` is the file descriptor that the daemon writes to."""
        self._requested = False
        self._poll = select.poll()
        self._poll.register(protocol, 0)  # no events: poll always reports a closed other end
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._request)
            signal.siginterrupt(number, False)

    def __call__(self) -> bool:
        """Whether a stop was requested. Raises DaemonGone when the daemon ended."""
        if self._poll.poll(0):
            raise DaemonGone("the daemon ended", "it is started again and continues from the last checkpoint")
        return self._requested

    def _request(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self._requested = True
