"""Puts a random history on a stream while a test runs."""

import random
import threading
import time
from itertools import islice

from tests.support.histories import Entry, folded, history
from tests.support.resharding_aws import ReshardingCloud


class Feed:
    """Puts a history on the stream, in order, until the block ends; sometimes folds 100 changes."""

    def __init__(self, cloud: ReshardingCloud, stream: str, seed: int) -> None:
        self.entries: list[Entry] = []
        self._cloud, self._stream, self._seed = cloud, stream, seed
        self._kinesis = cloud.client("kinesis")
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Feed":
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        chance, endless = random.Random(self._seed), history(self._seed, 300)
        while not self._ended.is_set():
            if chance.random() < 0.005:
                self._put_folded(list(islice(endless, 100)))
            else:
                entry = next(endless)
                self._put(entry.data, entry.partition_key, [entry])
            time.sleep(0.004)

    def _put_folded(self, entries: list[Entry]) -> None:
        by_shard: dict[str, list[Entry]] = {}
        for entry in entries:
            by_shard.setdefault(self._cloud.shard_of(self._stream, entry.partition_key), []).append(entry)
        for group in by_shard.values():
            self._put(folded(group), group[0].partition_key, group)

    def _put(self, data: bytes, key: str, entries: list[Entry]) -> None:
        self._kinesis.put_record(StreamName=self._stream, Data=data, PartitionKey=key)
        self.entries += entries
