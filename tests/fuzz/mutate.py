"""Makes invalid inputs from valid ones: flips bits, cuts, splices, and inserts extreme values and deep nesting."""

import gzip
import random
from collections.abc import Callable, Sequence
from pathlib import Path

from cdckit.aggregation import SubRecord, pack

CORPUS = Path(__file__).parent / "corpus"
_ODD = (
    b"null", b"true", b"[]", b"{}", b'""', b"0", b"-0", b"-1", b"1e400", b"1e-400", b"9" * 400, b"0.1" + b"0" * 300,
    b"18446744073709551616", b'"\\u0000"', b'"\\ud800"', b"\xff\xfe", b"\x00", b"NaN", b"Infinity",
    b'"FFFFFFFF/FFFFFFFF"', b'"0x1/1"', b'"1/1/1"', b'"9999-12-31 23:59:59.999999+15"',
    b'"0001-01-01 00:00:00+00 BC"', b'"infinity"',
)  # fmt: skip
_NAMES = (
    b"action", b"xid", b"timestamp", b"lsn", b"nextlsn", b"schema", b"table", b"columns", b"identity", b"pk", b"name",
    b"type", b"value", b"cdc", b"v", b"epoch", b"commit_lsn", b"index", b"source", b"prefix", b"content",
    b"transactional",
)  # fmt: skip


def corpus() -> Sequence[bytes]:
    """Valid inputs, and inputs that once found a bug."""
    return [path.read_bytes() for path in sorted(CORPUS.iterdir())]


def mutated(chance: random.Random, seeds: Sequence[bytes]) -> bytes:
    """One input, up to six changes away from a seed."""
    data = chance.choice(seeds)
    for _ in range(chance.randrange(1, 7)):
        data = chance.choice(_WAYS)(chance, data, seeds) or b"{"
    return data[: 1 << 20]


def _flip(chance: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    at = chance.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]


def _cut(chance: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    low, high = sorted((chance.randrange(len(data) + 1), chance.randrange(len(data) + 1)))
    return data[:low] + data[high:] if chance.random() < 0.7 else data[low:high]


def _splice(chance: random.Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    other = chance.choice(seeds)
    return data[: chance.randrange(len(data) + 1)] + other[chance.randrange(len(other) + 1) :]


def _odd_value(chance: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """Replace a value with an extreme one."""
    places = [at for at, byte in enumerate(data) if byte == ord(":")]
    if not places:
        return data
    start = chance.choice(places) + 1
    end = min((at for at in (data.find(b",", start), data.find(b"}", start)) if at >= 0), default=len(data))
    return data[:start] + chance.choice(_ODD) + data[end:]


def _rename(chance: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    return data.replace(b'"%b"' % chance.choice(_NAMES), b'"%b"' % chance.choice(_NAMES), 1)


def _repeat(chance: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    low, high = sorted((chance.randrange(len(data) + 1), chance.randrange(len(data) + 1)))
    return data[:high] + data[low:high] * chance.choice((1, 2, 50)) + data[high:]


def _nest(chance: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    depth, at = chance.choice((3, 200, 5_000)), chance.randrange(len(data) + 1)
    return data[:at] + chance.choice((b"[", b'{"a":')) * depth + data[at:]


def _folded(_: random.Random, data: bytes, __: Sequence[bytes]) -> bytes:
    return gzip.compress(data, 1, mtime=0)


def _packed(chance: random.Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    return pack([SubRecord("k", data), SubRecord("other", chance.choice(seeds))])


_WAYS: Sequence[Callable[[random.Random, bytes, Sequence[bytes]], bytes]] = (
    _flip, _flip, _cut, _splice, _odd_value, _odd_value, _odd_value, _rename, _repeat, _nest, _folded, _packed,
)  # fmt: skip
