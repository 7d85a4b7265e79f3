"""Dead letters on local disk, one file each: dropping one does not disturb a process that adds another."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from pathlib import Path

import msgspec

from cdckit.errors import ConsumerError
from consumers.dead_letters.letter import DeadLetter, decode_letter, in_stream_order
from consumers.storage.files import write_atomically

logger = logging.getLogger(__name__)


class LocalDeadLetters:
    """``FOLDER/SHARD/SEQUENCE-SUB.json``, readable only by their owner: records hold the source's data."""

    def __init__(self, folder: Path) -> None:
        """Creates nothing before the first letter."""
        self._folder = folder

    def put(self, letter: DeadLetter) -> None:
        """Writes the letter's file atomically; durable when this returns."""
        path = self._path(letter)
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_atomically(path, letter.encode())
        except OSError as error:
            raise ConsumerError(
                f"cannot store a dead letter in {self._folder}: {error}", "free disk space, or correct --dead-letters"
            ) from error

    def read(self) -> Sequence[DeadLetter]:
        """All letters; warns of a file that is not a letter and leaves it out."""
        letters = []
        for path in self._folder.glob("*/*.json"):
            try:
                letters.append(decode_letter(path.read_bytes()))
            except FileNotFoundError:
                continue  # dropped meanwhile
            except (msgspec.DecodeError, OSError) as error:
                logger.warning("%s is not a dead letter: %s", path, error)
        return in_stream_order(letters)

    def count(self) -> int:
        """The number of files."""
        return sum(1 for _ in self._folder.glob("*/*.json"))

    def drop(self, letters: Collection[DeadLetter]) -> None:
        """Deletes the letters' files."""
        for letter in letters:
            self._path(letter).unlink(missing_ok=True)

    def _path(self, letter: DeadLetter) -> Path:
        return self._folder / f"{letter.name}.json"
