"""The consumers' Prometheus metrics, scraped over HTTP."""

import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cdcctl.sandbox.processes import free_port
from cdckit.errors import UsageError
from cdckit.sink import Outcome
from consumers.worker.metrics import serve_metrics
from consumers.worker.status import ShardReporter, status_folder


def test_each_shard_s_report_is_served(tmp_path: Path) -> None:
    reporter = ShardReporter(status_folder(tmp_path, "search"), "search", "shardId-000000000001")
    reporter.record_flush(10, 4000, 1, Outcome(7, 2), None)
    now = datetime.now(UTC)
    reporter.record_latencies([now - timedelta(milliseconds=80)] * 3 + [now - timedelta(seconds=2)], now)
    reporter.report.millis_behind = 1500
    reporter.write()
    port = free_port()
    stop = serve_metrics(port, tmp_path, ["search", "audit"])
    try:
        text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
        with pytest.raises(UsageError, match=str(port)):
            serve_metrics(port, tmp_path, ["search"])
    finally:
        stop()
    samples = {
        (sample.name, sample.labels.get("le")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.labels.get("shard") == "shardId-000000000001"
    }
    assert samples["cdc_consumer_records_total", None] == 10
    assert samples["cdc_consumer_applied_total", None] == 7
    assert samples["cdc_consumer_superseded_total", None] == 2
    assert samples["cdc_consumer_dead_letters_total", None] == 1
    assert samples["cdc_consumer_bytes_total", None] == 4000
    assert samples["cdc_consumer_iterator_age_seconds", None] == 1.5
    assert samples["cdc_consumer_commit_to_applied_seconds_bucket", "0.1"] == 3
    assert samples["cdc_consumer_commit_to_applied_seconds_count", None] == 4
    assert ("cdc_consumer_checkpoint_age_seconds", None) not in samples, "none was made yet"
