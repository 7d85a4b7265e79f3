"""Law 3, order per key: no two entries of a key swap, whatever is refused and in whatever order answers arrive."""

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from producer.kinesis.batching.key_limiter import KeyLimiter
from producer.kinesis.limits import RequestLimits


@dataclass(frozen=True)
class Item:
    order_key: str
    number: int
    size: int = 10


@settings(max_examples=400)
@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=40), st.data())
def test_keys_keep_their_order_whatever_the_stream_answers(keys: list[str], data: st.DataObject) -> None:
    limiter: KeyLimiter[Item] = KeyLimiter(RequestLimits(entries=3, size=25))
    for number, key in enumerate(keys):
        limiter.add(Item(key, number))
    flying: list[list[Item]] = []
    accepted: list[Item] = []
    while limiter.pending:
        while len(flying) < 3 and (batch := limiter.take()):
            names = [item.order_key for item in batch]
            in_flight = [item.order_key for other in flying for item in other]
            assert len(names) == len(set(names)), "a key twice in one request"
            assert not set(names) & set(in_flight), "a key in two requests at once"
            assert len(batch) <= 3
            assert sum(item.size for item in batch) <= 25
            flying.append(batch)
        batch = flying.pop(data.draw(st.integers(0, len(flying) - 1)))
        refused = [item for item in batch if data.draw(st.integers(0, 3)) == 3]
        fine = [item for item in batch if item not in refused]
        limiter.accepted(fine)
        accepted += fine
        limiter.refused(refused)
    for key in set(keys):
        numbers = [item.number for item in accepted if item.order_key == key]
        assert numbers == [number for number, name in enumerate(keys) if name == key]


def test_an_entry_over_the_size_limit_goes_alone() -> None:
    limiter: KeyLimiter[Item] = KeyLimiter(RequestLimits(size=25))
    limiter.add(Item("a", 1, 100))
    limiter.add(Item("b", 2))
    assert [item.number for item in limiter.take()] == [1]
    assert [item.number for item in limiter.take()] == [2]


def test_what_was_refused_goes_before_what_is_new() -> None:
    limiter: KeyLimiter[Item] = KeyLimiter(RequestLimits(entries=1))
    limiter.add(Item("a", 1))
    limiter.add(Item("b", 2))
    limiter.refused(limiter.take())
    assert [item.number for item in limiter.take()] == [1]
    assert limiter.sendable == 1
