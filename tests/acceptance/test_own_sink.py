"""A sink of one's own, from `cdcctl consumer new` to live changes at a webhook, on the real KCL."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from tests.support.sandbox_run import SandboxRun

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(240)]


@pytest.fixture
def hook() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    seen: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            refuse = seen[-1]["table"] == "public.customers" and seen[-1]["key"] == {"id": 2}
            self.send_response(422 if refuse else 200)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/", seen
        server.shutdown()
        thread.join()


def test_a_new_sink_receives_live_changes_and_its_refusals_are_dead_letters(
    whole: SandboxRun, hook: tuple[str, list[dict[str, Any]]]
) -> None:
    url, seen = hook
    (whole.folder / "cdc.toml").write_text(f'[consumers.slack-alerts]\nurl = "{url}"\n')
    assert whole.cdcctl("consumer", "new", "slack-alerts", "--into", str(whole.folder / "package")).returncode == 0
    whole.parts.start("producer", ["producer", "run"])
    whole.shop.create()
    whole.parts.start(
        "slack-alerts", ["consumer", "run", "slack-alerts", "--sink", "slack_alerts:open_sink"],
        folder=whole.folder / "package",
    )  # fmt: skip
    whole.wait(lambda: {(one["table"], str(one["key"])) for one in seen} >= _wanted(whole))
    listed = whole.cdcctl("dlq", "ls", "slack-alerts", "-o", "json")
    assert listed.returncode == 0, listed.stderr
    letters = json.loads(listed.stdout)
    assert {(one["table"], "422" in one["error"]) for one in letters} == {("public.customers", True)}
    shown = whole.cdcctl("dlq", "show", "slack-alerts", letters[0]["id"], "--raw")
    assert json.loads(shown.stdout)["table"] == "customers"
    again = whole.cdcctl("dlq", "redrive", "slack-alerts", "--sink", "package.slack_alerts:open_sink", "-o", "json")
    assert again.returncode == 5
    assert len(json.loads(again.stdout)["remaining"]) == len(letters)
    refused = whole.cdcctl("dlq", "drop", "slack-alerts")
    assert refused.returncode == 2
    assert whole.cdcctl("dlq", "drop", "slack-alerts", "--all", "--yes").returncode == 0
    assert json.loads(whole.cdcctl("dlq", "ls", "slack-alerts", "-o", "json").stdout) == []


def _wanted(whole: SandboxRun) -> set[tuple[str, str]]:
    rows = whole.source.query("SELECT id FROM products")
    return {("public.products", str({"id": int(key)})) for (key,) in rows}
