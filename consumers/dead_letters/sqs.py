"""Dead letters in an SQS queue, for users whose alarms and tools watch queues; SQS keeps them for at most 14 days.

A record that is delivered again is in the queue again; `read` returns each place once. Reading hides the messages from
other readers for at most a minute.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import boto3
import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from cdckit.errors import ConsumerError
from consumers.dead_letters.letter import DeadLetter, decode_letter, in_stream_order

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

_HIDDEN_SECONDS = 60
_MAX_READ = 100_000


class SqsDeadLetters:
    """One queue, which several consumers may share: each reads its own letters."""

    def __init__(self, queue_url: str, consumer: str, client: SQSClient | None = None) -> None:
        """`client` defaults to one made from the standard AWS settings."""
        self._queue, self._consumer = queue_url, consumer
        with self._translated("reach"):
            self._client = client or boto3.client("sqs")

    def put(self, letter: DeadLetter) -> None:
        """Sends the letter; durable when this returns. SQS refuses a letter over the queue's message limit: use S3."""
        with self._translated("store a dead letter in"):
            self._client.send_message(QueueUrl=self._queue, MessageBody=letter.encode().decode())

    def read(self) -> Sequence[DeadLetter]:
        """All letters of this consumer that no other reader has hidden."""
        found = [(letter, handle) for letter, handle in self._receive() if letter.consumer == self._consumer]
        return in_stream_order({letter.name: letter for letter, _ in found}.values())

    def count(self) -> int:
        """The approximate number of messages in the whole queue, as SQS reports it."""
        names: list[Any] = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        with self._translated("count the dead letters in"):
            answer = self._client.get_queue_attributes(QueueUrl=self._queue, AttributeNames=names)
        return sum(int(answer["Attributes"].get(name, 0)) for name in names)

    def drop(self, letters: Collection[DeadLetter]) -> None:
        """Deletes the letters' messages, with all copies."""
        names = {letter.name for letter in letters}
        with self._translated("drop dead letters from"):
            for letter, handle in self._receive():
                if letter.consumer == self._consumer and letter.name in names:
                    self._client.delete_message(QueueUrl=self._queue, ReceiptHandle=handle)

    def _receive(self) -> list[tuple[DeadLetter, str]]:
        """Every message; hidden while they are collected, and visible again at the end."""
        with self._translated("read the dead letters in"):
            messages = list(self._messages())
            for message in messages:
                self._client.change_message_visibility(
                    QueueUrl=self._queue, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0
                )
            return [(decode_letter(message["Body"].encode()), message["ReceiptHandle"]) for message in messages]

    def _messages(self) -> Iterator[Any]:
        for _ in range(_MAX_READ // 10):
            answer = self._client.receive_message(
                QueueUrl=self._queue, MaxNumberOfMessages=10, VisibilityTimeout=_HIDDEN_SECONDS, WaitTimeSeconds=1
            )
            if not answer.get("Messages"):
                return
            yield from answer["Messages"]

    @contextmanager
    def _translated(self, action: str) -> Iterator[None]:
        try:
            yield
        except (ClientError, BotoCoreError, msgspec.DecodeError) as error:
            raise ConsumerError(
                f"cannot {action} {self._queue}: {error}",
                "check the queue's URL, its policy and its message size; for large records use --dead-letters s3://…",
            ) from error
