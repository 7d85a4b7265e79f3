"""`cdcctl demo` as a new user runs it: ends by itself, proves itself, leaves nothing behind."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.cdcctl import run_cdcctl

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(240)]


def processes_of(folder: Path) -> list[str]:
    """Processes whose command line or environment names the folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            text = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        except OSError:
            continue
        if str(folder).encode() in text and process.name != str(os.getpid()):
            found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


def test_the_demo_proves_all_satellites_equal_and_ends(folder: Path) -> None:
    done = run_cdcctl("demo", "-o", "json", environ={"CDC_DATA": str(folder)}, folder=folder)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert set(summary["satellites"]) == {"search", "parquet", "audit"}
    for satellite in summary["satellites"].values():
        assert satellite["equal"] is True
        assert satellite["changes"] > 200
        assert satellite["dead_lettered"] == 0
        assert satellite["read"] == satellite["changes"] + satellite["superseded"]
        assert 0 < satellite["first_change_seconds"] < summary["seconds"]
    assert processes_of(folder) == []


def test_ctrl_c_leaves_no_process_behind(folder: Path) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("CDC_", "AWS_"))}
    command = [sys.executable, "-m", "cdcctl.main", "demo"]
    environ = {**clean, "CDC_DATA": str(folder)}
    with subprocess.Popen(command, env=environ, cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.PIPE) as demo:
        time.sleep(9)
        assert len(processes_of(folder)) > 4
        demo.send_signal(signal.SIGINT)
        demo.communicate(timeout=60)
    assert demo.returncode == 130
    assert processes_of(folder) == []
