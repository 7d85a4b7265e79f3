"""The mapping in cdc.toml: fields, exclusions, filters, transforms, tokenizers, facets."""

import sys
import tomllib
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cdckit.envelope import MESSAGE_SCHEMA
from cdckit.errors import PoisonChange, UsageError
from cdckit.sink import Outcome, SinkContext
from cdckit.testing import batch, change, deliver
from consumers.search.engine import SearchPage
from consumers.search.mapping import MappedRow
from consumers.search.options import read_options
from consumers.search.query import open_index, request, search, stats
from consumers.search.sink import SearchSink, open_sink
from tests.support.sinks import closed_at_end


def options(toml: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = tomllib.loads(toml)["consumers"]["search"]
    return found


def opened(folder: Path, toml: str = "[consumers.search]") -> SearchSink:
    sink = open_sink(SinkContext("search", "shard-0", folder, options(toml)))
    assert isinstance(sink, SearchSink)
    return closed_at_end(sink)


def ask(folder: Path, text: str, **more: Any) -> SearchPage:
    with closing(open_index(folder)) as index:
        return index.search(request(text, **more))


def keys(folder: Path, text: str) -> list[str]:
    return [hit.key for hit in search(folder, text)]


MAPPED = """
[consumers.search]
table = "public.products, public.pages"
[consumers.search.mapping."public.products"]
title = "name"
tags = ["tags"]
exclude = ["secret"]
"""


def test_columns_go_to_their_fields(tmp_path: Path) -> None:
    sink = opened(tmp_path, MAPPED)
    row = {"name": "blue shirt", "text": "made of wool", "tags": "{warm,soft}", "secret": "xyzzy"}
    deliver(sink, change("I", 1, row, table="public.products"))
    assert keys(tmp_path, "title:shirt") == keys(tmp_path, "body:wool") == keys(tmp_path, "tags:soft") == ["[1]"]
    assert keys(tmp_path, "title:wool OR body:shirt OR tags:blue") == []


def test_an_excluded_column_is_neither_found_nor_stored(tmp_path: Path) -> None:
    deliver(opened(tmp_path, MAPPED), change("I", 1, {"name": "a", "secret": "xyzzy"}, table="public.products"))
    [hit] = search(tmp_path, "title:a")
    assert "secret" not in hit.values
    assert keys(tmp_path, "xyzzy") == []
    assert b"xyzzy" not in b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())


def test_a_table_that_is_not_named_has_no_effect_and_is_accounted_for(tmp_path: Path) -> None:
    sink = opened(tmp_path, MAPPED)
    outcome = deliver(
        sink, change("I", 1, {"name": "a"}, table="public.other"), change("T", table="public.other", at=2)
    )
    assert outcome == Outcome(applied=2)
    assert stats(tmp_path).documents == 0


def test_a_message_is_not_indexed(tmp_path: Path) -> None:
    outcome = deliver(opened(tmp_path), change("I", 1, {"content": "fence"}, table=f"{MESSAGE_SCHEMA}.fence"))
    assert outcome == Outcome(applied=1)
    assert stats(tmp_path).tables == {}


def test_a_title_counts_more_than_a_body(tmp_path: Path) -> None:
    sink = opened(tmp_path, MAPPED)
    deliver(
        sink,
        change("I", 1, {"name": "x", "text": "shirt and more words here"}, table="public.products"),
        change("I", 2, {"name": "shirt and more words here", "text": "x"}, table="public.products", at=2),
    )
    assert keys(tmp_path, "shirt") == ["[2]", "[1]"]


FILTERED = """
[consumers.search.mapping."public.orders".filter]
status = ["new", "paid"]
total = {ge = 10, lt = 100}
"""


def test_a_filter_follows_the_row_through_its_changes(tmp_path: Path) -> None:
    sink = opened(tmp_path, FILTERED)
    deliver(sink, change("I", 1, {"status": "draft", "total": 20, "note": "toast"}))
    assert keys(tmp_path, "toast") == []
    assert stats(tmp_path).filtered == 1
    deliver(sink, change("U", 1, {"status": "new", "total": 20}, at=2))  # the unchanged note is not in the change
    assert keys(tmp_path, "toast") == ["[1]"]
    deliver(sink, change("U", 1, {"status": "new", "total": 100}, at=3))
    assert keys(tmp_path, "toast") == []


@pytest.mark.parametrize(
    ("condition", "value", "passes"),
    [
        ('"paid"', "paid", True), ('"paid"', "new", False), ('"paid"', None, False), ("10", 10, True),
        ("true", True, True), ("true", False, False), ("1", True, False), ("{null = true}", None, True),
        ("{null = true}", "x", False), ("{null = false}", "x", True), ("{ne = 3}", 4, True), ("{ne = 3}", None, False),
        ("{gt = 9}", 10, True), ("{gt = 9.5}", 9, False), ('{gt = "2026-01-01"}', "2026-02-01", True),
        ('{not_in = ["a", "b"]}', "c", True), ('{not_in = ["a", "b"]}', "a", False), ('{in = ["a"]}', "a", True),
        ("{lt = 5}", "no number", False), ("{gt = 5}", "no number", True), ("{ge = 1}", "nan", True),
        ("{ne = 3}", True, True), ("{lt = 3}", True, False), ("{not_in = [1]}", True, True), ("1", "1.0", True),
        ("{not_in = []}", None, False), ("{not_in = []}", "x", True), ("{in = []}", "x", False),
    ],
)  # fmt: skip
def test_conditions(tmp_path: Path, condition: str, value: Any, passes: bool) -> None:
    sink = opened(tmp_path, f'[consumers.search.mapping."*".filter]\ncell = {condition}\n')
    deliver(sink, change("I", 1, {"cell": value, "text": "word"}))
    assert keys(tmp_path, "word") == (["[1]"] if passes else [])


def shout(row: MappedRow) -> Mapping[str, Any] | None:
    if row.values["title"] == "bad":
        raise ValueError("no such title")
    return None if row.values["title"] == "hidden" else {"title": str(row.values["title"]).upper(), "length": 5}


SHOUTED = f'[consumers.search.mapping."*"]\ntransform = "{__name__}:shout"\n'


def test_a_transform_decides_what_is_found_and_shown(tmp_path: Path) -> None:
    sink = opened(tmp_path, SHOUTED)
    deliver(sink, change("I", 1, {"title": "shirt", "text": "wool"}), change("I", 2, {"title": "hidden"}, at=2))
    [hit] = search(tmp_path, "shirt")
    assert hit.values == {"title": "SHIRT", "length": 5}
    assert keys(tmp_path, "wool") == []
    assert stats(tmp_path).filtered == 1


def test_a_transform_that_fails_is_a_poison_change_and_nothing_of_its_batch_stays(tmp_path: Path) -> None:
    sink = opened(tmp_path, SHOUTED)
    with pytest.raises(PoisonChange, match="no such title"):
        sink.apply(batch(change("I", 1, {"title": "good"}), change("I", 2, {"title": "bad"}, at=2)))
    assert sink.flush() == Outcome()
    assert stats(tmp_path).documents == 0


def test_facets_count_over_all_that_was_found(tmp_path: Path) -> None:
    sink = opened(tmp_path)
    deliver(
        sink,
        *(change("I", n, {"word": "x", "status": "new" if n % 3 else None, "n": n % 2}, at=n) for n in range(1, 7)),
    )
    page = ask(tmp_path, "x", limit=1, facets=["status", "n", "nowhere"])
    assert page.total == 6
    assert len(page.hits) == 1
    assert page.facets["status"] == {"new": 4, "null": 2}
    assert page.facets["n"] == {"0": 3, "1": 3}
    assert page.facets["nowhere"] == {"null": 6}


def test_trigrams_find_parts_of_words_and_ask_for_three_characters(tmp_path: Path) -> None:
    deliver(
        opened(tmp_path, '[consumers.search]\ntokenizer = "trigram"'), change("I", 1, {"t": "東京都庁舎 unbelievable"})
    )
    assert keys(tmp_path, "believ") == keys(tmp_path, "京都庁") == ["[1]"]
    with pytest.raises(UsageError, match="three characters"):
        search(tmp_path, "京都")


def test_porter_finds_other_forms_of_a_word(tmp_path: Path) -> None:
    deliver(opened(tmp_path, '[consumers.search]\ntokenizer = "porter"'), change("I", 1, {"t": "running shoes"}))
    assert keys(tmp_path, "run AND shoe") == ["[1]"]


def test_a_changed_mapping_is_logged_and_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    opened(tmp_path).close()
    assert "reindex" not in caplog.text
    sink = opened(tmp_path, MAPPED)
    assert "cdcctl search reindex" in caplog.text
    deliver(sink, change("I", 1, {"a": "still"}, table="public.other"))
    assert keys(tmp_path, "still") == ["[1]"]


@pytest.mark.parametrize(
    ("toml", "key", "hint"),
    [
        ('engine = "solr"', "engine", "sqlite or opensearch"),
        ('tokenizer = "icu"', "tokenizer", "trigram"),
        ('tokeniser = "icu"', "tokeniser", "did you mean tokenizer"),
        ('engine = "opensearch"', "url", "https://"),
        ('engine = "opensearch"\nurl = "localhost:9200"', "url", "https://"),
        ('index = "Upper"', "index", "lower-case"),
        ("refresh_seconds = -1", "refresh_seconds", "number"),
        ("table = 3", "table", "public.orders"),
        ("mapping = 3", "mapping", "[consumers.search.mapping"),
        ('[consumers.search.mapping."orders"]\ntitel = "x"', 'mapping."orders".titel', "title"),
        ('[consumers.search.mapping."orders"]\ntitle = 3', 'mapping."orders"', "lists"),
        ('[consumers.search.mapping."orders"]\nfilter = {a = {between = 3}}', "filter.a", "total"),
        ('[consumers.search.mapping."orders"]\nfilter = {a = {in = 3}}', "filter.a", "status"),
        ('[consumers.search.mapping."orders"]\ntransform = "nowhere:f"', "nowhere:f", "PYTHONPATH"),
    ],
)
def test_an_error_in_the_file_names_its_key_and_the_fix(toml: str, key: str, hint: str) -> None:
    with pytest.raises(UsageError) as raised:
        read_options(options(f"[consumers.search]\n{toml}"))
    assert key in raised.value.message
    assert hint in raised.value.hint


def test_keys_of_the_kit_are_left_alone() -> None:
    assert read_options(options("[consumers.search]\nflush_seconds = 0.5\nmax_shards = 3")).engine == "sqlite"


def test_the_transform_is_imported_where_the_consumer_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shop_search.py").write_text("def hide(row):\n    return None\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    deliver(
        opened(tmp_path / "s", '[consumers.search.mapping."*"]\ntransform = "shop_search:hide"'),
        change("I", 1, {"t": "x"}),
    )
    assert stats(tmp_path / "s").filtered == 1
    sys.modules.pop("shop_search")


def test_a_transform_may_import_the_old_name_of_its_argument(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = "from consumers.search.mapping import Row\n\ndef title(row: Row):\n    return {'title': row.values['t']}\n"
    (tmp_path / "old_search.py").write_text(lines)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.warns(FutureWarning, match="is now called MappedRow"):
        sink = opened(tmp_path / "s", '[consumers.search.mapping."*"]\ntransform = "old_search:title"')
    deliver(sink, change("I", 1, {"t": "blue", "u": "red"}))
    assert (keys(tmp_path / "s", "blue"), keys(tmp_path / "s", "red")) == (["[1]"], [])
    sys.modules.pop("old_search")
