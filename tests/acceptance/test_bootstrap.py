"""A satellite that starts late gets what was there before it, while changes go on, and says when it is level."""

import threading
import time

import pytest

from cdcctl.demo.workload import Shop
from tests.support.sandbox_run import SandboxRun

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(280)]


def test_a_satellite_that_starts_late_catches_up(whole: SandboxRun) -> None:
    """The rows are older than the slot, so the stream has no change of them."""
    whole.source.query(f"SELECT pg_drop_replication_slot('{whole.environ.get('CDC_SLOT', 'cdc')}')")
    whole.shop.create()
    whole.parts.start("producer", ["producer", "run"])
    whole.wait(lambda: whole.cdcctl("producer", "status").returncode == 0)
    ended = threading.Event()
    working = threading.Thread(target=Shop.run, args=(whole.shop, 30.0, ended.is_set))
    working.start()
    try:
        whole.parts.start("search", ["consumer", "run", "search", "--bootstrap"])
        log = whole.folder / "logs" / "search.log"
        whole.wait(lambda: "has caught up" in log.read_text(), seconds=150)
    finally:
        time.sleep(1)
        ended.set()
        working.join()
    whole.wait_until_equal("search", seconds=90)
    whole.parts.check()
