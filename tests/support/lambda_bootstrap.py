"""Lambda's Python runtime as far as a handler sees it: what the function's process runs. The standard library only.

    python -I -S lambda_bootstrap.py CODE_FOLDER… HANDLER SECONDS <EVENT >ANSWER

`-I -S` and the folders as the only places beside the standard library are what a function has. The answer is what
Lambda's own runtime reports: the result as JSON, or errorMessage, errorType and stackTrace.
"""

import importlib
import json
import sys
import time
import traceback


class Context:
    function_name, memory_limit_in_mb, aws_request_id = "cdc-producer", "512", "1"

    def __init__(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds

    def get_remaining_time_in_millis(self) -> int:
        return max(0, int((self._until - time.monotonic()) * 1000))


def main() -> int:
    *folders, name, seconds = sys.argv[1:]
    sys.path[:0] = folders
    module, _, function = name.rpartition(".")
    event = json.load(sys.stdin)
    try:
        handler = getattr(importlib.import_module(module), function)
        answer = json.dumps(handler(event, Context(float(seconds))))
    except BaseException as error:
        stack = traceback.format_list(traceback.extract_tb(error.__traceback__))
        report = {"errorMessage": str(error), "errorType": type(error).__name__, "stackTrace": stack}
        sys.stdout.write(json.dumps(report))
        return 1
    sys.stdout.write(answer)
    return 0


if __name__ == "__main__":
    sys.exit(main())
