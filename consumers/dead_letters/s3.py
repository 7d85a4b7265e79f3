"""Dead letters in S3, one object each: the place where disks are ephemeral (ECS, Fargate)."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from cdckit.errors import ConsumerError
from consumers.dead_letters.letter import DeadLetter, decode_letter, in_stream_order
from consumers.storage.objects import S3Location, S3Objects, raising

_CONTENT_TYPE = {"ContentType": "application/json"}


class S3DeadLetters:
    """``s3://BUCKET/PREFIX/CONSUMER/SHARD/SEQUENCE-SUB.json``."""

    def __init__(self, location: S3Location) -> None:
        """`location` belongs to one consumer. Raises ConsumerError, as every method."""
        self._location = location
        self._objects = S3Objects(location, raising(ConsumerError), lambda: _CONTENT_TYPE)

    def put(self, letter: DeadLetter) -> None:
        """Write the letter's object; durable when this returns."""
        self._objects.put(_object_name(letter), letter.encode())

    def read(self) -> Sequence[DeadLetter]:
        """All letters below the prefix, in stream order."""
        return in_stream_order([self._read(name) for name in self._objects.names()])

    def count(self) -> int:
        """The number of objects below the prefix; lists them and reads none."""
        return len(self._objects.names())

    def drop(self, letters: Collection[DeadLetter]) -> None:
        """Delete the letters' objects."""
        for letter in letters:
            self._objects.delete(_object_name(letter))

    def _read(self, name: str) -> DeadLetter:
        try:
            return decode_letter(self._objects.get(name))
        except msgspec.DecodeError as error:
            raise ConsumerError(
                f"{name} in {self._location} is not a dead letter: {error}", "move the object elsewhere, then repeat"
            ) from error


def _object_name(letter: DeadLetter) -> str:
    return f"{letter.name}.json"
