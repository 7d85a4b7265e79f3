"""Dead letters in S3: an object each; where disks are ephemeral (ECS, Fargate) this is the place."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import boto3
import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from cdckit.errors import ConsumerError
from consumers.dead_letters.letter import DeadLetter, decode_letter, in_stream_order

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class S3DeadLetters:
    """``s3://BUCKET/PREFIX/CONSUMER/SHARD/SEQUENCE-SUB.json``."""

    def __init__(self, bucket: str, prefix: str, client: S3Client | None = None) -> None:
        """`prefix` ends in no slash; `client` defaults to one by the standard AWS settings."""
        self._bucket, self._prefix = bucket, prefix
        with self._translated("reach"):
            self._client = client or boto3.client("s3")

    def put(self, letter: DeadLetter) -> None:
        """S3 answers when the object is durable."""
        with self._translated("keep a dead letter in"):
            self._client.put_object(
                Bucket=self._bucket, Key=self._key(letter), Body=letter.encode(), ContentType="application/json"
            )

    def read(self) -> Sequence[DeadLetter]:
        """All letters below the prefix."""
        letters = []
        with self._translated("read the dead letters in"):
            for key in self._keys():
                body = self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read()
                letters.append(decode_letter(body))
        return in_stream_order(letters)

    def count(self) -> int:
        """The objects below the prefix, by listing alone."""
        with self._translated("count the dead letters in"):
            return sum(1 for _ in self._keys())

    def drop(self, letters: Collection[DeadLetter]) -> None:
        """Delete their objects."""
        with self._translated("drop dead letters from"):
            for letter in letters:
                self._client.delete_object(Bucket=self._bucket, Key=self._key(letter))

    def _key(self, letter: DeadLetter) -> str:
        return f"{self._prefix}/{letter.name}.json"

    def _keys(self) -> Iterator[str]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=f"{self._prefix}/")
        return (item["Key"] for page in pages for item in page.get("Contents", []))

    @contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        try:
            yield
        except (ClientError, BotoCoreError, msgspec.DecodeError) as error:
            raise ConsumerError(
                f"cannot {what} s3://{self._bucket}/{self._prefix}: {error}",
                "check the bucket's name and region, and s3:PutObject, GetObject, ListBucket, DeleteObject on it",
            ) from error
