"""What cdcctl shows on a terminal: questions with their defaults, defaults in the help, progress bars, and images."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from cdcctl import output
from cdcctl.demo.screenshots import screenshot
from cdcctl.replay.progress import ReplayProgress
from consumers.dead_letters import DeadLetter, DeadLetterStore, open_store
from consumers.stream.reader import ShardPage
from consumers.stream.record import RawRecord
from tests.support.terminal import INTERRUPT, on_terminal


@pytest.fixture
def dead_letters(tmp_path: Path) -> DeadLetterStore:
    store = open_store("", "search", tmp_path / "data")
    store.put(DeadLetter.of("search", "shard", RawRecord(b"x", "k", "1", 0), ValueError("no"), None))
    return store


@pytest.mark.parametrize(
    ("typed", "status", "left"),
    [("y\n", 0, 0), ("yes\n", 0, 0), ("n\n", 1, 1), ("\n", 1, 1), (INTERRUPT, 130, 1), ("\x04", 130, 1)],
    ids=["y", "yes", "n", "Enter", "Ctrl-C", "Ctrl-D"],
)
def test_a_confirmation_shows_its_answers_and_its_default_is_no(
    dead_letters: DeadLetterStore, tmp_path: Path, typed: str, status: int, left: int
) -> None:
    arguments = ("dlq", "drop", "search", "--all", "--data", str(tmp_path / "data"))
    session = on_terminal(arguments, tmp_path, [("Permanently delete 1 dead letters of search? [y/N]: ", typed)])
    assert session.status == status, session.text
    assert dead_letters.count() == left


def test_init_shows_each_default_and_enter_accepts_it(tmp_path: Path) -> None:
    answers = [
        ("(no password: use PGPASSFILE)", "postgresql://cdc@db/shop\n"), ("Short id of this source [main]: ", "\n"),
        ("Replication slot [cdc]: ", "orders\n"), ("Kinesis data stream [cdc]: ", "\n"), ("(empty: all): ", "\n"),
        ("Folder of the local satellites [", "\n"), ("Prefix of the names of the KCL applications [cdc]: ", "\n"),
    ]  # fmt: skip
    session = on_terminal(["init"], tmp_path, answers, {"CDC_CONFIG": "cdc.toml"}, columns=140)
    assert session.status == 0, session.text
    text = (tmp_path / "cdc.toml").read_text()
    assert 'dsn = "postgresql://cdc@db/shop"' in text
    assert 'slot = "orders"' in text
    assert 'stream = "cdc"' in text


def test_an_interrupted_init_writes_nothing(tmp_path: Path) -> None:
    session = on_terminal(["init"], tmp_path, [("(no password: use PGPASSFILE)", INTERRUPT)], columns=140)
    assert session.status == 130, session.text
    assert not (tmp_path / "cdc.toml").exists()


@pytest.mark.parametrize(
    ("arguments", "defaults"),
    [
        (("stream", "create"), ["[default: (on-demand)]", "[default: 168]", "[default: (cdc.toml)]"]),
        (("replay", "run"), ["[default: (now)]", "[default: (below DATA/replays)]"]),
        (("dlq", "redrive"), ["[default: (all)]"]),
        (("audit", "verify"), ["[default: (all keys of the log)]"]),
        (("consumer", "run"), ["[default: (earliest; with --bootstrap: now)]"]),
        (("producer", "backfill"), ["[default: (unlimited)]"]),
    ],
)
def test_the_help_shows_the_defaults(arguments: tuple[str, ...], defaults: list[str], tmp_path: Path) -> None:
    session = on_terminal([*arguments, "--help"], tmp_path, columns=200)
    assert [default for default in defaults if default not in session.text] == [], session.text


@pytest.mark.parametrize("width", [60, 80, 140])
def test_the_progress_bar_fits_the_terminal_and_shows_what_matters(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    console = output.stderr()
    bar = output.progress_bar(console)
    bar.add_task("", total=4, completed=3, count=12_345, rate=4100.0, position="at 2026-11-24 10:00:00")
    with console.capture() as shown:
        console.print(bar.get_renderable())
    [line] = shown.get().splitlines()
    assert len(line) <= width
    assert "75%" in line
    assert "12,345 changes" in line
    assert "4,100/s" in line
    assert " left" in line
    assert ("at 2026-11-24" in line) == (width == 140)


def test_progress_is_measured_from_the_slowest_shard() -> None:
    progress = ReplayProgress()
    progress.update(ShardPage("shardId-0", [], [], 400_000, "1"), 0)
    progress.update(ShardPage("shardId-1", [], [], 50_000, "1"), 0)
    progress.update(ShardPage("shardId-0", [], [datetime(2026, 11, 24, 10, tzinfo=UTC)], 100_000, "2"), 12_345)
    assert progress.text().startswith("75%  12,345 changes  ")
    assert "at 2026-11-24" in progress.text()


def test_the_stream_after_the_end_of_the_range_does_not_count() -> None:
    progress = ReplayProgress(until=datetime.now(UTC))
    progress.update(ShardPage("shardId-0", [], [], 0, "1"), 0)
    assert progress.text().startswith("100%")


def test_a_screenshot_is_what_a_terminal_shows(tmp_path: Path) -> None:
    text = screenshot(("stream", "--help"), {}, tmp_path, 70)
    assert "\x1b[1mcdcctl stream --help\x1b[0m\n" in text
    plain = [line for line in text.splitlines() if "\x1b" not in line]
    assert any("─" in line for line in text.splitlines()), "boxes, as on a terminal"
    assert max(map(len, plain)) <= 70
