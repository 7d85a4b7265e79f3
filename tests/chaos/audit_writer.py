"""A process that a test kills: delivers ranges of one history to the audit log, repeatedly and in any order."""

import random
import sys
from pathlib import Path

from cdckit.sink import SinkContext
from cdckit.testing import change, deliver
from consumers.audit.sink import open_sink

COUNT = 3_000


def main(folder: str, shard: str, seed: str) -> None:
    chance = random.Random(seed)
    sink = open_sink(SinkContext("audit", shard, Path(folder), {"anchor_seconds": 0.05}))
    history = [change("U", at % 50, {"n": at}, at=at) for at in range(1, COUNT + 1)]
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        start = chance.randrange(COUNT)
        part = history[start : start + chance.randint(1, 120)]
        if chance.random() < 0.3:
            chance.shuffle(part)
        deliver(sink, *part, shard=shard)


if __name__ == "__main__":
    main(*sys.argv[1:])
