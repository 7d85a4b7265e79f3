"""One fixture plugin a real server; no test is timed."""

import pytest
from hypothesis import settings

pytest_plugins = [
    "tests.support.postgres",
    "tests.support.local_aws",
    "tests.support.resharding_aws",
    "tests.support.opensearch",
    "tests.support.lambda_package",
    "tests.support.calling",
    "tests.support.sinks",
]

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Why each test failed, shortly, once more at the end: where the parts' logs are long, only that may be kept."""
    for report in [*terminalreporter.stats.get("failed", []), *terminalreporter.stats.get("error", [])]:
        told = [line[:400] for line in report.longreprtext.splitlines() if line.startswith("E  ")]
        terminalreporter.section(report.nodeid, "_")
        terminalreporter.write_line("\n".join(told if len(told) < 12 else [*told[:2], "E   …", *told[-8:]]))
