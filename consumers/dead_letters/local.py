"""Dead letters on local disk: a file each, so that dropping one disturbs nobody who adds another."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from pathlib import Path

import msgspec

from cdckit.errors import ConsumerError
from consumers.dead_letters.letter import DeadLetter, decode_letter, in_stream_order
from consumers.storage.files import write_whole

logger = logging.getLogger(__name__)


class LocalDeadLetters:
    """``FOLDER/SHARD/SEQUENCE-SUB.json``, readable by their owner alone: records hold the source's data."""

    def __init__(self, folder: Path) -> None:
        """Nothing is made before the first letter."""
        self._folder = folder

    def put(self, letter: DeadLetter) -> None:
        """Write, fsync, rename, fsync the folder: whole or not there."""
        path = self._path(letter)
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_whole(path, letter.encode())
        except OSError as error:
            raise ConsumerError(
                f"cannot keep a dead letter in {self._folder}: {error}", "free the disk, or mend --dead-letters"
            ) from error

    def read(self) -> Sequence[DeadLetter]:
        """All letters; a file that is none is left out with a warning."""
        letters = []
        for path in self._folder.glob("*/*.json"):
            try:
                letters.append(decode_letter(path.read_bytes()))
            except FileNotFoundError:
                continue  # dropped meanwhile
            except (msgspec.DecodeError, OSError) as error:
                logger.warning("%s is no dead letter: %s", path, error)
        return in_stream_order(letters)

    def count(self) -> int:
        """The files."""
        return sum(1 for _ in self._folder.glob("*/*.json"))

    def drop(self, letters: Collection[DeadLetter]) -> None:
        """Remove their files."""
        for letter in letters:
            self._path(letter).unlink(missing_ok=True)

    def _path(self, letter: DeadLetter) -> Path:
        return self._folder / f"{letter.name}.json"
