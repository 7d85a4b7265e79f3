"""Whatever bytes come from outside, what reads them refuses with one of our errors; `make fuzz` asks for longer."""

import random

import pytest

from tests.fuzz.mutate import corpus, mutated
from tests.fuzz.targets import TARGETS, refusals
from tests.support.scale import scale
from tests.support.seed import seed


@pytest.mark.parametrize("data", corpus(), ids=lambda data: f"{len(data)}")
def test_what_is_right_is_read_by_some_reader(data: bytes) -> None:
    assert not all(refusals(data).values())


def test_no_input_crashes_a_reader() -> None:
    chance, seeds, refused = random.Random(seed()), corpus(), set[str]()
    for _ in range(scale(1_500, 100_000)):
        refused.update(name for name, rejected in refusals(mutated(chance, seeds)).items() if rejected)
    assert refused == TARGETS.keys()
