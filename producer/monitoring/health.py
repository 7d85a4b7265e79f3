"""The producer's HTTP endpoint: ``/metrics`` for Prometheus, ``/health`` for a supervisor that restarts it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from cdckit.errors import UsageError
from producer.monitoring.metrics import ProducerMetrics

STALE_SECONDS = 30.0
"""A relay that has not reported to its slot for this long is unhealthy: it hangs, or PostgreSQL is down."""


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Do not log scrapes."""


@contextmanager
def serve_endpoint(metrics: ProducerMetrics, port: str) -> Iterator[None]:
    """Serve on `port` of all interfaces (``host:port``: of one); do nothing when it is empty. Raises UsageError."""
    if not port:
        yield
        return
    host, _, number = port.rpartition(":")
    try:
        server = make_server(
            host or "0.0.0.0",  # noqa: S104 -- scraped from elsewhere
            int(number), _application(metrics), ThreadingWSGIServer, _Quiet,
        )  # fmt: skip
    except (OSError, ValueError, OverflowError) as error:
        raise UsageError(f"cannot serve metrics on {port!r}: {error}", "use a free port, like 9187") from error
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), name="endpoint", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _application(metrics: ProducerMetrics) -> Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]:
    metrics_app: Any = make_wsgi_app(metrics.registry)

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ.get("PATH_INFO") != "/health":
            return [*metrics_app(environ, start_response)]
        silent = time.monotonic() - metrics.last_report
        healthy = silent < STALE_SECONDS
        start_response("200 OK" if healthy else "503 Service Unavailable", [("Content-Type", "text/plain")])
        text = "ok" if healthy else f"the relay has not reported to the slot for {silent:.0f} s"
        return [f"{text}\n".encode()]

    return application
