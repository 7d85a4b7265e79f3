"""The errors of the Kinesis API."""

from __future__ import annotations


class KinesisError(Exception):
    """An error answer: its code and message."""

    def __init__(self, code: str, message: str) -> None:
        """`code` is AWS's name of the error, such as ``ResourceNotFoundException``."""
        super().__init__(message)
        self.code, self.message = code, message


def not_found(what: str) -> KinesisError:
    """The stream or shard does not exist."""
    return KinesisError("ResourceNotFoundException", f"{what} not found")


def invalid_argument(message: str) -> KinesisError:
    """An argument is not valid."""
    return KinesisError("InvalidArgumentException", message)
