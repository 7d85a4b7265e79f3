"""Arrays: PostgreSQL's text of a one-dimensional array <-> an Arrow list of typed elements."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

import pyarrow as pa

from cdckit.change import Value
from consumers.parquet.types import pg_array
from consumers.parquet.types.kinds import Kind, list_type

Encoded = tuple[Any, Mapping[int, Value]]


def encode_lists(element: Kind, values: Sequence[Value], encode: Callable[[Kind, Sequence[Value]], Encoded]) -> Encoded:
    """An Arrow list array, and the misfits: arrays of other dimensions or bounds, or with a misfit as an element."""
    cells = [_elements(element, value) for value in values]
    misfits = {index: value for index, value in enumerate(values) if value is not None and cells[index] is None}
    flat = [item for cell in cells for item in cell or ()]
    array, element_misfits = encode(element, flat)
    if element_misfits:
        bad_cells = {index: values[index] for index in _owners(cells, element_misfits)}
        rest = [None if index in bad_cells else value for index, value in enumerate(values)]
        array, other_misfits = encode_lists(element, rest, encode)
        return array, {**other_misfits, **bad_cells}
    return pa.ListArray.from_arrays(_offsets(cells), array, type=list_type(element)), misfits


def decode_lists(element: Kind, array: Any, decode: Callable[[Kind, Any], list[Value]]) -> list[Value]:
    """Each list as PostgreSQL's text of an array."""
    chunks = array.chunks if isinstance(array, pa.ChunkedArray) else [array]
    return [text for chunk in chunks for text in _decode_chunk(element, chunk, decode)]


def _decode_chunk(element: Kind, chunk: Any, decode: Callable[[Kind, Any], list[Value]]) -> list[Value]:
    texts = [_text(element, value) for value in decode(element, chunk.flatten())]
    found: list[Value] = []
    at = 0
    for length in chunk.value_lengths().to_pylist():
        found.append(None if length is None else pg_array.render(texts[at : at + length]))
        at += length or 0
    return found


def _elements(element: Kind, value: Value) -> list[Value] | None:
    if not isinstance(value, str) or (texts := pg_array.parse(value)) is None:
        return None
    try:
        return [None if text is None else _READERS.get(element.family, str)(text) for text in texts]
    except (ValueError, InvalidOperation):
        return None


def _owners(cells: Sequence[Sequence[Value] | None], element_misfits: Mapping[int, Value]) -> set[int]:
    owners = [index for index, cell in enumerate(cells) for _ in cell or ()]
    return {owners[at] for at in element_misfits}


def _offsets(cells: Sequence[Sequence[Value] | None]) -> Any:
    offsets: list[int | None] = []
    at = 0
    for cell in cells:
        offsets.append(None if cell is None else at)
        at += len(cell or ())
    return pa.array([*offsets, at], pa.int32())


_READERS: Mapping[str, Callable[[str], Value]] = {
    "int": int,
    "bool": lambda text: text == "t",
    "decimal": Decimal,
    "float": Decimal,
    "number": Decimal,
    "bytes": lambda text: text.removeprefix("\\x"),
}


def _text(element: Kind, value: Value) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return "t" if value else "f"
    if element.family == "float":
        return float_text(Decimal(value), 6 if element.name == "real" else 15)
    if isinstance(value, Decimal):
        return format(value, "f")
    return f"\\x{value}" if element.family == "bytes" else str(value)


def float_text(value: Decimal, exponent_from: int) -> str:
    """A float as PostgreSQL prints it: with an exponent below 1e-4, and from `exponent_from` (6: real, 15: double)."""
    if not value.is_finite():
        return "NaN" if value.is_nan() else "-Infinity" if value < 0 else "Infinity"
    sign, digits, exponent = value.normalize().as_tuple()
    assert isinstance(exponent, int)
    power = len(digits) + exponent - 1
    if not value or -4 <= power < exponent_from:
        return format(value.normalize(), "f")
    mantissa = "".join(map(str, digits))
    fraction = f".{mantissa[1:]}" if len(mantissa) > 1 else ""
    return f"{'-' * sign}{mantissa[0]}{fraction}e{'-' if power < 0 else '+'}{abs(power):02d}"
