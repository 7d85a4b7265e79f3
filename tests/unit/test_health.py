"""`status` and `top`: the next action, limits on lag, and screens that fit the terminal."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdcctl import output
from cdcctl.status.advice import advise, lag_problems
from cdcctl.status.model import ConsumerState, Failure, Health, ProducerState, ShardState, SlotState, StreamState
from cdcctl.status.render import columns, format_seconds, rows, sparkline, to_json
from cdcctl.status.top import History, frame

SLOT = SlotState("cdc", "shop", 4711, None, 1000, 1500, 4096, 0.01, "ok", "fine", "")
STREAM = StreamState("cdc", "ACTIVE", "PROVISIONED", 2, 0, 24, 1, "77")
SHARD = ShardState("shardId-000000000000", "host-search-0", True, False, "495", "1:0/1:0", 0.5, 3, True, 80_000.0)
SEARCH = ConsumerState("search", "cdc-search", [SHARD], 0, applied=10, p50_ms=100.0, p99_ms=200.0)
HEALTHY = Health(1_000_000.0, "main", SLOT, ProducerState(10, 0, 0, 0, 0.0), STREAM, [SEARCH])
UNREACHABLE = Failure("cannot connect", "start it")


def with_shard(**changes: object) -> Health:
    return replace(HEALTHY, consumers=[replace(SEARCH, shards=[replace(SHARD, **changes)])])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("health", "level", "text", "action"),
    [
        (HEALTHY, "ok", "no problem", "verify"),
        (replace(HEALTHY, slot=UNREACHABLE, stream=UNREACHABLE, consumers=[]), "danger", "cannot connect", "start it"),
        (replace(HEALTHY, slot=replace(SLOT, reader=None)), "danger", "no process reads", "producer run"),
        (replace(HEALTHY, slot=replace(SLOT, level="danger", text="95 % of its WAL")), "danger", "95 %", ""),
        (replace(HEALTHY, slot=replace(SLOT, level="warning", text="half of its WAL")), "warning", "half", ""),
        (replace(HEALTHY, stream=UNREACHABLE), "danger", "cannot connect", "start it"),
        (replace(HEALTHY, producer=ProducerState(1, 9, 0, 5, 90.0)), "warning", "90 s behind", "reshard"),
        (replace(HEALTHY, consumers=[]), "warning", "no consumer", "consumer run --all"),
        (with_shard(alive=False), "warning", "search is not running", "cdcctl consumer run search"),
        (with_shard(alive=False, until_loss=3600.0), "danger", "1.0 hours", "retention"),
        (with_shard(lag=300.0), "warning", "300 s behind", "--workers"),
        (with_shard(alive=False, ended=True), "ok", "no problem", "verify"),
        (replace(HEALTHY, consumers=[replace(SEARCH, dead_letters=4)]), "warning", "4 dead letters", "dlq ls search"),
        (replace(HEALTHY, consumers=[replace(SEARCH, shards=[replace(SHARD, alive=False)], stopped="claimed")]),
         "danger", "stopped permanently: claimed", "fix the cause"),
        (replace(HEALTHY, consumers=[replace(SEARCH, error=UNREACHABLE)]), "danger", "cannot connect", "start it"),
    ],
)  # fmt: skip
def test_the_most_urgent_problem_comes_with_its_fix(health: Health, level: str, text: str, action: str) -> None:
    advice = advise(health)
    assert advice.level == level
    assert text in advice.text
    assert action in advice.action


@pytest.mark.parametrize(
    ("health", "over"),
    [
        (HEALTHY, False),
        (with_shard(lag=61.0), True),
        (with_shard(lag=None), True),  # an unknown lag is not within a limit
        (with_shard(lag=None, ended=True), False),
        (replace(HEALTHY, slot=UNREACHABLE), True),
        (replace(HEALTHY, slot=replace(SLOT, reader=None)), True),
        (replace(HEALTHY, slot=replace(SLOT, reader=None, idle_seconds=5.0)), False),  # a Lambda between two runs
        (replace(HEALTHY, slot=replace(SLOT, reader=None, idle_seconds=90.0)), True),
        (replace(HEALTHY, producer=ProducerState(0, 0, 0, 0, 61.0)), True),
        (replace(HEALTHY, consumers=[replace(SEARCH, error=UNREACHABLE)]), True),
    ],
)
def test_a_limit_on_lag_is_exceeded_or_not(health: Health, over: bool) -> None:
    assert bool(lag_problems(health, 60.0)) is over


@pytest.mark.parametrize("width", [60, 80, 140])
def test_the_screen_fits_the_terminal(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    history = History()
    history.add(HEALTHY)
    history.add(replace(HEALTHY, at=HEALTHY.at + 2, consumers=[replace(SEARCH, applied=50)]))
    console = output.stdout()
    with console.capture() as shown:
        console.print(frame(history, width))
    assert max(map(len, shown.get().splitlines())) <= width
    assert "search" in shown.get()
    assert ("position" in shown.get()) is (width >= 110)
    assert all(len(row) == len(columns(width)) for row in rows(HEALTHY, width))


def test_rates_come_from_two_samples_and_a_restart_is_not_negative() -> None:
    history = History()
    for at, applied in ((0.0, 100), (2.0, 300), (4.0, 10), (6.0, 30)):
        history.add(replace(HEALTHY, at=at, consumers=[replace(SEARCH, applied=applied)]))
    assert history.applied("search") == [100.0, 0.0, 10.0]
    assert history.lags("search") == [0.5] * 4


def test_json_has_everything_including_errors() -> None:
    shown = to_json(replace(HEALTHY, stream=UNREACHABLE))
    assert shown["stream"] == {"error": {"message": "cannot connect", "hint": "start it"}}
    assert shown["slot"]["behind"] == 500
    assert shown["consumers"][0]["lag"] == 0.5
    assert shown["consumers"][0]["shards"][0]["pending"] == 3


@given(st.lists(st.floats(0, 1e12), max_size=50))
def test_a_sparkline_has_the_length_and_the_maximum_of_its_series(values: list[float]) -> None:
    bars = sparkline(values)
    assert len(bars) == len(values)
    if values and max(values) > 0:
        assert bars[values.index(max(values))] == "█"


def test_durations_and_sizes() -> None:
    assert [format_seconds(x) for x in (None, 0, 119, 600, 90_000, 864_000)] == [
        "?",
        "0.0 s",
        "119.0 s",
        "10 min",
        "25 h",
        "10 d",
    ]
    assert [output.file_size(x) for x in (0, 2048, 5 * 1024**2)] == ["0 bytes", "2.0 kB", "5.2 MB"]
