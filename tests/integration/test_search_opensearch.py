"""The search satellite on a real OpenSearch node."""

import itertools
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdckit.change import Table
from cdckit.errors import PoisonChange, SatelliteError, TransientSinkError, UsageError
from cdckit.runtime.settings import Settings
from cdckit.sink import Outcome, SinkContext
from cdckit.testing import batch, change, deliver
from consumers.search import options as search_options
from consumers.search.engine import IndexStats, SearchPage
from consumers.search.mapping import IndexMapping, Rule
from consumers.search.opensearch.generations import OpenSearchGenerations
from consumers.search.query import documents, open_index, request
from consumers.search.query import stats as index_stats
from consumers.search.reindex import reindex
from consumers.search.sink import SearchSink, open_sink
from consumers.worker.factory import sink_context
from tests.support.opensearch import Node
from tests.support.scale import scale
from tests.support.search_histories import HOSTILE, Step, batches, histories

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]
ORDERS = Table("public", "orders")
NOWHERE = Path("unused")
Options = Mapping[str, Any]


def opened(options: Options) -> SearchSink:
    sink = open_sink(SinkContext("search", "shard-0", NOWHERE, options))
    assert isinstance(sink, SearchSink)
    return sink


def ask(options: Options, text: str, **more: Any) -> SearchPage:
    refresh(options)
    with closing(open_index(NOWHERE, options)) as index:
        return index.search(request(text, **more))


def keys(options: Options, text: str) -> list[str]:
    return sorted(hit.key for hit in ask(options, text, limit=1000).hits)


def refresh(options: Options) -> None:
    with closing(OpenSearchGenerations(search_options.read_options(options))) as generations:
        generations.client.indices.refresh(index=options["index"])


def stats(options: Options) -> IndexStats:
    return index_stats(NOWHERE, options)


def rows(options: Options, source: str = "main") -> dict[str, Any]:
    return {key: (values, position) for key, values, position in documents(NOWHERE, source, ORDERS, options)}


def test_any_order_with_duplicates_converges(opensearch: Node) -> None:
    options, numbers = opensearch.options(), itertools.count(1)
    sink = opened(options)

    @settings(max_examples=scale(25, 500), deadline=None)
    @given(steps=histories(), data=st.data())
    def converges(steps: list[Step], data: st.DataObject) -> None:
        number = next(numbers)
        word, straight, scrambled = f"w{number}", f"straight{number}", f"scrambled{number}"
        if steps:
            deliver(sink, *(step.change(straight, word) for step in steps))
        for part in batches(data, steps):
            outcome = deliver(sink, *(step.change(scrambled, word) for step in part))
            assert outcome.applied + outcome.superseded == len(part)
        assert rows(options, scrambled) == rows(options, straight)
        hits = ask(options, word, limit=100).hits
        found = [sorted((hit.key, hit.snippet) for hit in hits if hit.source == side) for side in (straight, scrambled)]
        assert found[0] == found[1]
        assert {key for key, _ in found[0]} == rows(options, straight).keys()

    converges()
    assert stats(options).partial == 0


def test_what_the_query_language_finds(opensearch: Node) -> None:
    options = opensearch.options(mapping={"*": {"title": ["name"], "tags": ["tags"], "facets": ["status"]}})
    texts = ["blue shirt", "red shirt", "blue hat", "o'brien@x.com c++ 50%"]
    rows_ = [
        change("I", n, {"name": text, "tags": "{a,b}", "note": f"note{n}", "status": "new" if n < 4 else None}, at=n)
        for n, text in enumerate(texts, 1)
    ]
    deliver(opened(options), *rows_)
    expected = {
        "blue shirt": [1], '"blue shirt"': [1], "shirt OR hat": [1, 2, 3], "shirt NOT red": [1], "sh*": [1, 2],
        "title:hat": [3], "body:hat": [], "tags:b": [1, 2, 3, 4], "body:note2": [2], "o'brien@x.com": [4],
        "(blue OR red) shirt": [1, 2], "BLUE": [1, 3], '{"match_all": {}}': None, "*:*": None, "_id:1": [],
    }  # fmt: skip
    for text, numbers in expected.items():
        if numbers is None:
            with pytest.raises(UsageError):
                ask(options, text)
        else:
            assert keys(options, text) == [f"[{number}]" for number in numbers], text
    page = ask(options, "tags:a", facets=["status"], limit=2, offset=1)
    assert (page.total, len(page.hits), page.facets) == (4, 2, {"status": {"new": 3, "null": 1}})
    with pytest.raises(UsageError, match="names no facet 'note'"):
        ask(options, "blue", facets=["note"])
    with pytest.raises(UsageError, match="10000"):
        ask(options, "blue", offset=10_000)


def test_an_excluded_column_is_neither_stored_nor_found(opensearch: Node) -> None:
    options = opensearch.options(mapping={"*": {"exclude": ["secret"]}})
    sink = opened(options)
    deliver(sink, change("I", 1, {"name": "blue", "secret": "hush"}, at=1))
    deliver(sink, change("U", 1, {"name": "red", "secret": "hush2"}, at=2), change("D", 2, at=3))
    assert (keys(options, "red"), keys(options, "hush OR hush2")) == (["[1]"], [])
    assert rows(options)["[1]"][0] == {"id": 1, "name": "red"}


def test_a_truncate_and_a_late_insert_of_another_shard(opensearch: Node) -> None:
    options = opensearch.options()
    one, other = opened(options), opened(options)
    deliver(one, change("I", 1, {"t": "a"}, at=1), change("I", 2, {"t": "a"}, at=9))
    assert deliver(one, change("T", at=5)) == Outcome(applied=1)
    assert deliver(other, change("T", at=5), change("I", 3, {"t": "late"}, at=4)) == Outcome(superseded=2)
    assert rows(options).keys() == {"[2]"}


def test_truncates_and_inserts_at_the_same_moment(opensearch: Node) -> None:
    options = opensearch.options()
    sinks = [opened(options) for _ in range(3)]

    def work(shard: int) -> None:
        for at in range(1, 21):
            row = change("I", shard * 100 + at, {"t": "x"}, at=at, index=shard + 1)
            deliver(sinks[shard], change("T", at=at), row) if shard == 0 else deliver(sinks[shard], row)

    threads = [threading.Thread(target=work, args=(shard,)) for shard in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert rows(options).keys() == {"[20]", "[120]", "[220]"}


def test_writers_of_the_same_row_lose_nothing(opensearch: Node) -> None:
    options = opensearch.options()
    sinks = [opened(options) for _ in range(4)]
    deliver(sinks[0], change("I", 1, {"title": "t0", "body": "kept"}, at=1))
    history = [change("U", 1, {"title": f"t{at}"}, at=at) for at in range(2, 42)]
    threads = [
        threading.Thread(target=lambda own=history[n::4], sink=sink: [deliver(sink, item) for item in own])
        for n, sink in enumerate(sinks)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [(values, position)] = rows(options).values()
    assert values == {"id": 1, "title": "t41", "body": "kept"}
    assert position.commit_lsn == 41


def test_a_rejected_row_is_a_poison_change_with_the_reason(opensearch: Node) -> None:
    options = opensearch.options()
    sink = opened(options)
    huge = change("I", 1, {"t": "x" * 101 * 1024 * 1024})  # the server takes no request over 100 MiB
    with pytest.raises(PoisonChange, match=r"public\.orders/\[1\]"):
        sink.apply(batch(huge))
    assert deliver(sink, change("I", 2, {"t": "fine"}, at=2)) == Outcome(applied=1)


def test_a_blocked_index_stops_the_consumer_and_makes_no_dead_letter(opensearch: Node) -> None:
    options = opensearch.options()
    sink = opened(options)
    deliver(sink, change("I", 1, {"t": "a"}))
    with closing(OpenSearchGenerations(search_options.read_options(options))) as generations:
        generations.client.indices.put_settings(index=options["index"], body={"index.blocks.write": True})
        with pytest.raises(SatelliteError, match="403"):
            deliver(sink, change("I", 2, {"t": "a"}, at=2))
        generations.client.indices.put_settings(index=options["index"], body={"index.blocks.write": False})
    assert deliver(sink, change("I", 2, {"t": "a"}, at=2)) == Outcome(applied=1)


def test_a_batch_larger_than_one_request_takes(opensearch: Node) -> None:
    options = opensearch.options()
    sizes = [3_900_000, 23_000_000, 1, 20_000_000, 1]
    rows_ = [change("I", n, {"t": "y" * size}, at=n) for n, size in enumerate(sizes, 1)]
    assert deliver(opened(options), *rows_) == Outcome(applied=len(sizes))
    assert stats(options).documents == len(sizes)


def test_hostile_text(opensearch: Node) -> None:
    options = opensearch.options(mapping={"*": {"title": ["title"], "facets": ["title"]}})
    sink = opened(options)
    deliver(
        sink, *(change("I", n, {"title": text, "text": f"common {text}"}, at=n) for n, text in enumerate(HOSTILE, 1))
    )
    kept = rows(options)
    assert [kept[f"[{n}]"][0]["title"] for n in range(1, len(HOSTILE) + 1)] == HOSTILE
    page = ask(options, "common", limit=100)
    assert page.total == len(HOSTILE)
    for hit in page.hits:
        assert "<" not in hit.snippet.replace("<mark>", "").replace("</mark>", "")
        assert hit.snippet.count("<mark>") == hit.snippet.count("</mark>")
    assert keys(options, "alert") == ["[6]", "[7]"]


def test_a_long_key_has_its_own_id(opensearch: Node) -> None:
    options = opensearch.options()
    sink = opened(options)
    deliver(sink, *(change("I", "k" * 600 + str(n), {"t": "long"}, at=n) for n in (1, 2)))
    deliver(sink, change("U", "k" * 600 + "1", {"t": "longer"}, at=3))
    assert len(rows(options)) == 2
    assert keys(options, "longer") == ['["' + "k" * 600 + '1"]']


TITLED = IndexMapping(mapping={"*": Rule(title=["title"])})


class Interfering(OpenSearchGenerations):
    """A reindex during which something else happens at a chosen step."""

    def __init__(self, options: Options, step: str, act: Any) -> None:
        super().__init__(search_options.read_options(options))
        self._step, self._act = step, act

    def rows(self, generation: str, since: float = 0.0) -> Iterator[Any]:
        yield from super().rows(generation, since)
        self._at("copied" if since == 0.0 else "added")

    def switch_writers(self, generation: str) -> None:
        super().switch_writers(generation)
        self._at("switched")

    def _at(self, step: str) -> None:
        if step == self._step:
            self._act()


@pytest.mark.parametrize("step", ["copied", "switched", "added"])
def test_what_is_written_during_a_reindex_is_in_the_new_index(opensearch: Node, tmp_path: Path, step: str) -> None:
    options = opensearch.options()
    sink = opened(options)
    deliver(
        sink,
        change("I", 1, {"title": "a", "body": "x"}),
        change("I", 2, {"title": "a"}),
        change("I", 3, {"title": "a"}),
    )

    def meanwhile() -> None:
        deliver(sink, change("U", 1, {"title": "b"}, at=5), change("D", 2, at=6), change("I", 4, {"title": "c"}, at=7))

    with closing(open_index(NOWHERE, options)) as index:
        done = reindex(Interfering(options, step, meanwhile), TITLED, tmp_path)
        assert done.swapped
        assert done.generation == f"{options['index']}-000002"
        refresh(options)
        assert index.search(request("title:b AND body:x")).total == 1
    assert rows(options).keys() == {"[1]", "[3]", "[4]"}
    assert deliver(sink, change("U", 2, {"title": "late"}, at=5)).superseded == 1
    assert stats(options).generation == done.generation


def test_a_replays_shadow_has_its_own_index(opensearch: Node, tmp_path: Path) -> None:
    options = opensearch.options()
    deliver(opened(options), change("I", 1, {"t": "live"}))
    shadow = tmp_path / "search-20261124T110000"
    context = sink_context(Settings(consumers={"search": options}), "search", "shard-0", shadow)
    deliver(open_sink(context), change("I", 2, {"t": "replayed"}))
    assert rows(options).keys() == {"[1]"}
    assert rows({**options, "index": f"{options['index']}-search-20261124t110000"}).keys() == {"[2]"}


def test_a_changed_mapping_is_logged(opensearch: Node, caplog: pytest.LogCaptureFixture) -> None:
    options = opensearch.options()
    opened(options).close()
    assert "reindex" not in caplog.text
    opened({**options, "tokenizer": "porter"}).close()
    assert "cdcctl search reindex" in caplog.text


def test_without_a_node_a_reader_names_the_server_and_a_writer_retries() -> None:
    options = {"engine": "opensearch", "url": "http://user:secret@127.0.0.1:9", "index": "none"}
    with pytest.raises(SatelliteError, match=r"127\.0\.0\.1:9 cannot be reached") as raised:
        open_index(NOWHERE, options)
    assert "secret" not in raised.value.message
    with pytest.raises(TransientSinkError):
        opened(options)


def test_the_error_for_a_missing_index_names_the_command(opensearch: Node) -> None:
    with pytest.raises(SatelliteError, match="no search index") as raised:
        open_index(NOWHERE, opensearch.options())
    assert "cdcctl consumer run search" in raised.value.hint


@pytest.mark.chaos
def test_a_node_that_is_killed_and_comes_back(own_opensearch: Node) -> None:
    options = own_opensearch.options()
    sink = opened(options)
    written: list[int] = []
    stopping = threading.Event()

    def work() -> None:
        for number in itertools.count(1):
            while not stopping.is_set():
                try:
                    deliver(sink, change("I", number, {"t": f"n{number}"}, at=number))
                    written.append(number)
                    break
                except TransientSinkError:
                    time.sleep(0.05)
            if stopping.is_set():
                return

    worker = threading.Thread(target=work)
    worker.start()
    for _ in range(scale(1, 5)):
        before = len(written)
        while len(written) < before + 50:
            time.sleep(0.02)
        own_opensearch.kill()
        own_opensearch.start()
    before = len(written)
    while len(written) < before + 20:
        time.sleep(0.02)
    stopping.set()
    worker.join()
    assert rows(options).keys() >= {f"[{number}]" for number in written}
