"""Signals set a flag: during a wait or during another signal's handler, none is missed and nothing hangs."""

import signal
import subprocess
import sys

import pytest

from cdckit.runtime.signals import StopFlag, stop_on_signals

AT_EVERY_LINE = """
import signal, sys
from cdckit.runtime.signals import stop_on_signals

def again(frame, event, arg):
    global left
    left -= 1
    if left == 0:
        signal.raise_signal(signal.SIGTERM)
    return again

fired = 0
for moment in range(1, 400):
    left = moment
    with stop_on_signals() as stopping:
        sys.settrace(again)
        {what}
        sys.settrace(None)
        if left <= 0:
            fired += 1
            assert stopping.is_set()
assert fired > 3, fired
print("never stuck", fired)
"""


@pytest.mark.parametrize("what", ["stopping.wait(0.01)", "signal.raise_signal(signal.SIGTERM)"])
def test_a_signal_at_any_line_of_a_wait_or_of_another_s_handler_is_seen(what: str) -> None:
    """With `threading.Event` this would wait forever: the interrupted code holds the lock that the handler needs."""
    ran = subprocess.run(
        [sys.executable, "-c", AT_EVERY_LINE.format(what=what)], capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.stdout.startswith("never stuck"), ran.stderr


def test_the_second_ctrl_c_ends_at_once_and_the_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stop_on_signals() as stopping:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert stopping.is_set()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_wait_ends_with_its_time_or_at_once_when_it_is_set() -> None:
    stopping = StopFlag()
    assert not stopping.wait(0.06)
    stopping.set()
    assert stopping.wait(3600)
