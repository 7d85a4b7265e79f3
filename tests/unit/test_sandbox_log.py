"""A shard's records in files: each number is found, each page is whole, and a cut line is removed."""

import random
from pathlib import Path

import pytest

from cdcctl.sandbox.kinesis.segments import START, Log, Place
from cdcctl.sandbox.kinesis.wire import Record, line


def number(n: int) -> str:
    return f"{n:030d}"


@pytest.fixture(params=[1, 5_000, 10**9])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Log, list[int]]:
    """Some hundred records of 0 to 20,000 bytes, in files of about this size; every third number is missing."""
    dice, made = random.Random(7), Log.open(tmp_path / "log", request.param)
    numbers = [n for n in range(10, 400) if n % 3]
    while_left = list(numbers)
    while while_left:
        batch, while_left = while_left[:7], while_left[7:]
        lines = [line(Record(number(n), 0.5, dice.randbytes(dice.choice([0, 10, 3_000, 20_000])), "k")) for n in batch]
        made.append(lines, number(batch[0]), number(batch[-1]))
    return made, numbers


def read(log: Log, place: Place, limit: int = 10_000, most: int = 10**7) -> list[int]:
    found = list[int]()
    while True:
        lines, after = log.read(place, limit, most)
        if not lines:
            return found
        assert len(lines) <= limit
        assert len(lines) == 1 or sum(len(one) + 1 for one in lines) <= most
        found += [int(one[19:49]) for one in lines]
        place = after


def test_every_number_is_found(log: tuple[Log, list[int]]) -> None:
    made, numbers = log
    for n in range(5, 405):
        after = [one for one in numbers if one >= n]
        place = made.find(number(n))
        assert made.number_at(place) == (number(after[0]) if after else None)
        assert read(made, place) == after
    assert made.last == number(numbers[-1])


@pytest.mark.parametrize(("limit", "most"), [(1, 10**7), (3, 10**7), (10_000, 1), (10_000, 30_000), (10_000, 10**7)])
def test_pages_are_whole_and_nothing_is_left_out(log: tuple[Log, list[int]], limit: int, most: int) -> None:
    made, numbers = log
    assert read(made, START, limit, most) == numbers


def test_a_place_whose_file_is_gone_is_the_oldest_that_is_kept(log: tuple[Log, list[int]]) -> None:
    made, numbers = log
    place = made.find(number(numbers[0]))
    made.drop_before(number(200))
    kept = read(made, place)
    assert kept == numbers[-len(kept) :]
    assert len(made.segments) == 1 or kept[0] > 190


def test_what_was_written_is_there_again_and_a_cut_line_is_not(log: tuple[Log, list[int]]) -> None:
    made, numbers = log
    for cut in (b'{"SequenceNumber":"0000', b"x" * 10_000):
        with made._path(made.segments[-1]).open("ab") as file:
            file.write(cut)
        again = Log.open(made.folder, made.segment_bytes)
        assert (read(again, START), again.last, again.end()) == (numbers, made.last, made.end())
