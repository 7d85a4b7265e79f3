"""The producer's endpoint: metrics and health on one port."""

import time
import urllib.error
import urllib.request

import pytest

from cdcctl.sandbox.processes import free_port
from cdckit.errors import UsageError
from cdckit.position import Lsn
from producer.monitoring.health import STALE_SECONDS, serve_endpoint
from producer.monitoring.metrics import ProducerMetrics


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_health_is_lost_while_the_relay_does_not_report_and_returns() -> None:
    metrics, port = ProducerMetrics("main"), free_port()
    with serve_endpoint(metrics, f"127.0.0.1:{port}"):
        assert get(port, "/health") == (200, "ok\n")
        metrics.last_report = time.monotonic() - STALE_SECONDS - 5
        status, text = get(port, "/health")
        assert status == 503
        assert "the relay has not reported to the slot" in text
        assert "cdc_changes_total" in get(port, "/metrics")[1]
        metrics.on_acknowledged(Lsn(0), "")
        assert get(port, "/health")[0] == 200


@pytest.mark.parametrize("port", ["x", "99999", "nowhere.invalid:1"])
def test_a_port_that_cannot_be_served_is_refused(port: str) -> None:
    with pytest.raises(UsageError, match="cannot serve"), serve_endpoint(ProducerMetrics("main"), port):
        pass
