"""Encodes values as Arrow arrays and decodes them, without loss.

A value that the column's type cannot hold is never rounded: it is returned as a misfit, and is stored as text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa

from cdckit.change import Value
from consumers.parquet.types.kinds import Kind
from consumers.parquet.types.lists import decode_lists, encode_lists

Misfits = Mapping[int, Value]
"""The values, by index, that the column's type cannot hold (``infinity``, a year before 1, 24:00 ...)."""

_CONVERSION_ERRORS = (
    pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, ValueError, TypeError, OverflowError,
)  # fmt: skip


def encode(kind: Kind, values: Sequence[Value]) -> tuple[Any, Misfits]:
    """An Arrow array of the values, and the misfits. None and misfits are null in the array."""
    if kind.element is not None:
        return encode_lists(kind.element, values, encode)
    try:
        return _ENCODERS[kind.family](kind, values), {}
    except _CONVERSION_ERRORS:
        return _encode_one_by_one(kind, values)


def decode(kind: Kind, array: Any) -> list[Value]:
    """The values as wal2json writes them; timestamps in UTC, floats as the shortest Decimal."""
    if kind.element is not None:
        return decode_lists(kind.element, array, decode)
    return _DECODERS[kind.family](array)


def _encode_one_by_one(kind: Kind, values: Sequence[Value]) -> tuple[Any, Misfits]:
    fitting: list[Value] = list(values)
    misfits: dict[int, Value] = {}
    for index, value in enumerate(values):
        fitting[index] = _plain_instant(value) if kind.family == "instant" else value
        try:
            _ENCODERS[kind.family](kind, [fitting[index]])
        except _CONVERSION_ERRORS:
            misfits[index], fitting[index] = value, None
    return _ENCODERS[kind.family](kind, fitting), misfits


def _plain_instant(value: Value) -> Value:
    # Arrow reads offsets of hours and minutes only; a local mean time (+00:19:32) has seconds.
    try:
        return datetime.fromisoformat(str(value)).astimezone(UTC).isoformat(" ")
    except (ValueError, OverflowError):
        return value


def _direct(kind: Kind, values: Sequence[Value]) -> Any:
    return pa.array(values, kind.arrow)


def _ints(kind: Kind, values: Sequence[Value]) -> Any:
    # Arrow would accept a Decimal too, and use all memory and time for 1e999999999
    if not {*map(type, values)} <= _INTEGERS:
        raise TypeError("not integers")
    return pa.array(values, kind.arrow)


_INTEGERS = {int, type(None)}


def _floats(kind: Kind, values: Sequence[Value]) -> Any:
    return pa.array([None if value is None else _float(value) for value in values], kind.arrow)


def _float(value: Value) -> float:
    if isinstance(value, Decimal | float) or type(value) is int:
        return float(value)
    raise TypeError(f"not a number: {value!r}")


def _number_texts(_kind: Kind, values: Sequence[Value]) -> Any:
    return pa.array([None if value is None else _number_text(value) for value in values], pa.string())


def _number_text(value: Value) -> str:
    if isinstance(value, Decimal) and abs(value.adjusted()) <= _MAX_DIGITS:
        return format(value, "f")
    if type(value) is int:
        return str(value)
    raise TypeError(f"not a number: {value!r}")


_MAX_DIGITS = 150_000
"""PostgreSQL's numeric has at most 131,072 digits before the point; 1e999999999 would fill the memory."""


def _bytes(kind: Kind, values: Sequence[Value]) -> Any:
    return pa.array([None if value is None else bytes.fromhex(str(value)) for value in values], kind.arrow)


def _timestamps(kind: Kind, values: Sequence[Value]) -> Any:
    return pa.array(values, pa.string()).cast(kind.arrow)


_ENCODERS: Mapping[str, Callable[[Kind, Sequence[Value]], Any]] = {
    "int": _ints,
    "bool": _direct,
    "text": _direct,
    "decimal": _direct,
    "float": _floats,
    "number": _number_texts,
    "bytes": _bytes,
    "time": _timestamps,
    "instant": _timestamps,
}


def _plain(array: Any) -> list[Value]:
    return list(array.to_pylist())


def _decimals_of_text(array: Any) -> list[Value]:
    return [None if text is None else Decimal(text) for text in array.cast(pa.string()).to_pylist()]


def _hex(array: Any) -> list[Value]:
    return [None if value is None else value.hex() for value in array.to_pylist()]


def _timestamp_texts(array: Any) -> list[Value]:
    return [None if text is None else _trimmed(text) for text in array.cast(pa.string()).to_pylist()]


def _instant_texts(array: Any) -> list[Value]:
    # DuckDB may name the zone Etc/UTC; only with "UTC" does the text end with a plain Z
    texts = array.cast(pa.timestamp("us", "UTC")).cast(pa.string()).to_pylist()
    return [None if text is None else _trimmed(text.removesuffix("Z")) + "+00" for text in texts]


def _trimmed(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text


_DECODERS: Mapping[str, Callable[[Any], list[Value]]] = {
    "int": _plain,
    "bool": _plain,
    "text": _plain,
    "decimal": _plain,
    "float": _decimals_of_text,
    "number": _decimals_of_text,
    "bytes": _hex,
    "time": _timestamp_texts,
    "instant": _instant_texts,
}
