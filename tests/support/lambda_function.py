"""The producer as a Lambda function without Lambda: each invocation a process of its own, killed at its time limit."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BOOTSTRAP = Path(__file__).with_name("lambda_bootstrap.py")
HANDLER = "producer.lambda_handler.handler"


@dataclass(frozen=True)
class Answer:
    """What an invocation came to: `result`, or `error` as Lambda reports it; `log` is what CloudWatch would get."""

    result: dict[str, Any]
    error: dict[str, Any]
    log: str
    timed_out: bool = False


@dataclass(frozen=True)
class Function:
    """A function's configuration. `code` is its unpacked zip; none: this checkout and its environment."""

    environ: Mapping[str, str]
    seconds: float = 60
    code: Sequence[str] = ()
    command: Sequence[str] = field(default=(sys.executable,))

    def invoke(self, event: object = None) -> Answer:
        return self.finish(self.start(event))

    def start(self, event: object = None) -> "subprocess.Popen[str]":
        alone = ["-I", "-S"] if self.code else []
        folders = self.code or [str(Path(__file__).parents[2])]
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("CDC_", "AWS_", "PG"))}
        process = subprocess.Popen(
            [*self.command, *alone, str(BOOTSTRAP), *folders, HANDLER, str(self.seconds)],
            env={**kept, "CDC_CONFIG": os.devnull, **self.environ}, text=True, cwd="/",
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert process.stdin is not None
        process.stdin.write(json.dumps(event or {}))
        process.stdin.close()
        process.stdin = None
        return process

    def finish(self, process: "subprocess.Popen[str]") -> Answer:
        try:
            out, log = process.communicate(timeout=self.seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            out, log = process.communicate()
            return Answer({}, {"errorMessage": f"Task timed out after {self.seconds} seconds"}, log, timed_out=True)
        if process.returncode == -signal.SIGKILL:
            return Answer({}, {"errorMessage": "killed"}, log)
        said = json.loads(out)
        return Answer(said, {}, log) if process.returncode == 0 else Answer({}, said, log)
