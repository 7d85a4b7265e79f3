"""Fuzzes every reader (``make fuzz MINUTES=10 SEED=1``); stores an input that crashes one in build/fuzz and exits 1."""

import argparse
import random
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

from tests.fuzz.mutate import corpus, mutated
from tests.fuzz.targets import refusals
from tests.support.seed import seed


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int)
    options = parser.parse_args()
    chosen = seed() if options.seed is None else options.seed
    chance, seeds, inputs, refused = random.Random(chosen), corpus(), 0, Counter[str]()
    deadline = time.monotonic() + options.minutes * 60
    while time.monotonic() < deadline:
        data = mutated(chance, seeds)
        try:
            refused.update(name for name, was_refused in refusals(data).items() if was_refused)
        except Exception as error:
            path = Path("build/fuzz") / f"{chosen}-{inputs}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            traceback.print_exception(error)
            sys.stderr.write(f"input {inputs:,} crashed a reader; stored as {path}\n")
            return 1
        inputs += 1
    shares = ", ".join(f"{name} {refused[name]:,}" for name in sorted(refused))
    sys.stdout.write(f"{inputs:,} inputs, no crash; refused by {shares}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
