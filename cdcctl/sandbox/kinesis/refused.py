"""What a request is refused with."""

from __future__ import annotations


class Refused(Exception):
    """An error of the Kinesis API: its code and message."""

    def __init__(self, code: str, message: str) -> None:
        """`code` as AWS has it."""
        super().__init__(message)
        self.code, self.message = code, message


def not_found(what: str) -> Refused:
    """The stream or shard does not exist."""
    return Refused("ResourceNotFoundException", f"{what} not found")


def invalid(message: str) -> Refused:
    """An argument cannot be."""
    return Refused("InvalidArgumentException", message)
