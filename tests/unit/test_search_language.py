"""The query language: what queries find, clear errors for invalid ones, and no text that the engine takes as syntax."""

import contextlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdckit.errors import UsageError
from cdckit.sink import SinkContext
from cdckit.testing import change, deliver
from consumers.search.engine import IndexReader
from consumers.search.language import And, AndNot, Or, Term, parse
from consumers.search.query import open_index, request
from consumers.search.sink import open_sink


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IndexReader]:
    folder: Path = tmp_path_factory.mktemp("index")
    sink = open_sink(SinkContext("search", "shard-0", folder))
    texts = ["blue shirt", "red shirt", "blue hat", "o'brien@x.com c++ 50%", 'say "blue" AND NOT red', "title:blue (x)"]
    deliver(sink, *(change("I", n, {"t": text}, at=n) for n, text in enumerate(texts, 1)))
    sink.close()
    with closing(open_index(folder)) as opened:
        yield opened


def found(index: IndexReader, text: str) -> set[int]:
    return {int(hit.key[1:-1]) for hit in index.search(request(text, limit=100)).hits}


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("blue shirt", {1}), ("blue AND shirt", {1}), ('"blue shirt"', {1}), ("shirt OR hat", {1, 2, 3}),
        ("shirt NOT red", {1}), ("shirt AND NOT red", {1}), ("sh*", {1, 2}), ('"blue sh"*', {1}), ("BLUE Shirt", {1}),
        ("(blue OR red) shirt", {1, 2}), ("body:hat", {3}), ("title:hat", set()), ("o'brien@x.com", {4}), ("c++", {4}),
        ("50%", {4}), ("blue and shirt", set()), ("NEAR(blue shirt)", set()), ("{t}: blue", set()),
        ("not red", {5}), ("http://blue", set()), ("blue -shirt", {1}), ("^blue shirt", {1}), ("blue+shirt", {1}),
        ('""', None), ("blue\x00shirt", {1}), ("shirt OR hat AND blue", {1, 2, 3}),
    ],
)  # fmt: skip
def test_what_a_query_finds(index: IndexReader, text: str, numbers: set[int] | None) -> None:
    if numbers is None:
        with pytest.raises(UsageError):
            found(index, text)
    else:
        assert found(index, text) == numbers


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "at the end, a word is expected"), ("blue AND", "at the end, a word is expected"),
        ("AND blue", "at character 1, a word is expected, not"), ("NOT blue", "NOT needs a term before it"),
        ("(blue", "a closing bracket is missing"), ("blue)", "closing bracket without"), ('blue "x', "double quote"),
        ("blue !!!", "'!!!' has no letter"), ("title:(blue)", "field before a bracket"), ("(" * 40 + "a", "32 brack"),
        ("a" * 5000, "5000 characters"), ("a OR", "at the end"), ("a OR OR b", "not 'OR'"),
    ],
)  # fmt: skip
def test_an_invalid_query_is_a_clear_error(text: str, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse(text)
    assert message in raised.value.message
    assert raised.value.hint


def test_the_tree() -> None:
    assert parse('a b* OR title:"c d" NOT e') == Or(
        (And((Term("a"), Term("b", prefix=True))), AndNot(Term("c d", field="title"), Term("e")))
    )


@settings(max_examples=500, deadline=None)
@given(text=st.text(st.characters() | st.sampled_from('"*():^-+{}[]~ANDORTNE \x00\x02'), max_size=40))
def test_any_text_is_a_query_or_a_clear_error(index: IndexReader, text: str) -> None:
    with contextlib.suppress(UsageError):
        assert index.search(request(text)).total >= 0
