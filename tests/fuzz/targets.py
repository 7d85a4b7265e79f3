"""What reads bytes from outside. Each may refuse an input with one of our errors; anything else is a crash."""

from collections.abc import Callable, Mapping

from cdckit.aggregation import unpack
from cdckit.claim_check import decode_reference
from cdckit.envelope import decode, decode_row, position_and_time
from cdckit.errors import CdcError
from producer.ack_tracker import AckTracker
from producer.decoding.router import Router
from producer.masking.masker import Masker
from producer.masking.rules import parse_masks
from producer.records import Origin
from producer.wal2json import end_and_time

ORIGIN = Origin("main", 1, "7300000000000000000", 1, "cdc")


def _routed(data: bytes) -> None:
    """As the producer takes a message in; what it makes of a row is read back as a consumer does."""
    router = Router(ORIGIN, prefixes=["outbox"])
    router.begin(b'{"action":"B","lsn":"0/1"}')
    for record in router.handle(data):
        len(record.partition_key)


def _masked(data: bytes) -> None:
    masks = Masker(parse_masks("public.*.email=redact,public.*.note=last4,public.*.name=hash"), b"a key of the HMAC")
    Router(ORIGIN, masker=masks).handle(data)


def _ended(data: bytes) -> None:
    tracker = AckTracker()
    tracker.open_begin = data
    tracker.commit(data)
    tracker.advance()
    end_and_time(data)


def _unpacked(data: bytes) -> None:
    for record in unpack(data, "key"):
        decode(record.data)


TARGETS: Mapping[str, Callable[[bytes], object]] = {
    "envelope.decode": decode,
    "envelope.place": position_and_time,
    "envelope.decode_row": decode_row,
    "oversize.kept_in": decode_reference,
    "aggregation.unpack": _unpacked,
    "router": _routed,
    "masks": _masked,
    "ledger": _ended,
}


def refusals(data: bytes) -> Mapping[str, bool]:
    """Which targets refused the input. Raises whatever else one of them raises."""
    told = {}
    for name, target in TARGETS.items():
        try:
            target(data)
            told[name] = False
        except CdcError:
            told[name] = True
    return told
