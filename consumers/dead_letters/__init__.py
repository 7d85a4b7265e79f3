"""Stores records that can never be applied, with their error and position: on disk, in S3 or in a queue."""

from consumers.dead_letters.letter import DeadLetter, DeadLetterStore
from consumers.dead_letters.stores import open_store

__all__ = ["DeadLetter", "DeadLetterStore", "open_store"]
