"""Records that can never be applied, kept with their error and place: one JSON-lines file a shard on local disk."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from consumers.shard import RawRecord


class DeadLetter(msgspec.Struct, frozen=True):
    """One record that was given up. `data` is the record's bytes (base64 in the file)."""

    shard: str
    sequence_number: str
    sub_sequence_number: int
    partition_key: str
    error: str
    time: str
    data: bytes


class LocalDeadLetters:
    """Appends to ``FOLDER/SHARD.jsonl``; a redelivered record is there once again and counts once in `read`."""

    def __init__(self, folder: Path) -> None:
        """Make the folder, readable by its owner alone: records hold the source's data."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder

    def put(self, shard: str, record: RawRecord, error: Exception) -> None:
        """Append and fsync: durable when this returns."""
        letter = DeadLetter(
            shard,
            record.sequence_number,
            record.sub_sequence_number,
            record.partition_key,
            str(error),
            datetime.now(UTC).isoformat(),
            record.data,
        )
        with (self._folder / f"{shard}.jsonl").open("ab") as file:
            file.write(msgspec.json.encode(letter) + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def read(self) -> list[DeadLetter]:
        """All letters, each place once, oldest first. A last line cut by a crash is left out."""
        letters: dict[tuple[str, str, int], DeadLetter] = {}
        for path in sorted(self._folder.glob("*.jsonl")):
            for line in path.read_bytes().splitlines():
                try:
                    letter = msgspec.json.decode(line, type=DeadLetter)
                except msgspec.DecodeError:
                    continue
                letters.setdefault((letter.shard, letter.sequence_number, letter.sub_sequence_number), letter)
        return sorted(letters.values(), key=lambda letter: letter.time)


def dead_letter_folder(data: Path, consumer: str) -> Path:
    """Where one consumer's dead letters lie."""
    return data / "dead-letters" / consumer
