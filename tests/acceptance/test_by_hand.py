"""The parts by hand: the README's steps as they are written, replay, the plain MultiLangDaemon, and bad input."""

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from cdckit.runtime.settings import Settings
from consumers.kcl.leases import LeaseTable
from consumers.stream.shards import list_shards
from consumers.stream.start import EARLIEST
from tests.acceptance.conftest import Whole, run_cdcctl

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(240)]
ROOT = Path(__file__).parents[2]


def lines(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_tail_replay_and_rewind(whole: Whole) -> None:
    whole.parts.start("producer", ["producer", "run"])
    whole.parts.start("audit", ["consumer", "run", "audit"])
    whole.shop.create()
    whole.wait_until_equal("audit")
    tailed = whole.cdcctl("tail", "--since", "10m", "--table", "public.*", "--no-follow", "-o", "jsonl")
    assert tailed.returncode == 0, tailed.stderr
    assert len(lines(tailed.stdout)) == whole.shop.statements
    assert whole.cdcctl("tail", "--since", "10m", "--table", "none.*", "--no-follow", "-o", "jsonl").stdout == ""

    before = LeaseTable(Settings().application("audit")).read()
    replayed = whole.cdcctl("replay", "audit", "--from", "earliest", "-o", "json")
    assert replayed.returncode == 0, replayed.stderr
    answer = json.loads(replayed.stdout)
    assert (answer["applied"], answer["superseded"], answer["complete"]) == (whole.shop.statements, 0, True)
    shadow = Path(answer["folder"])
    assert whole.cdcctl("audit", "verify", "--data", str(shadow)).returncode == 0
    assert {shard: lease.owner for shard, lease in (before or {}).items()} == {
        shard: lease.owner for shard, lease in (LeaseTable(Settings().application("audit")).read() or {}).items()
    }

    refused = whole.cdcctl("replay", "audit", "--from", "earliest", "--in-place")
    assert refused.returncode == 5
    assert "holds a live lease" in refused.stderr
    whole.parts.running.pop("audit").stop(25)
    rewound = whole.cdcctl("replay", "audit", "--from", "earliest", "--in-place", "-o", "json")
    assert rewound.returncode == 0, rewound.stderr
    whole.parts.start("audit", ["consumer", "run", "audit"])
    whole.wait(lambda: sum(report.superseded for report in whole.reports("audit")) == whole.shop.statements)
    assert sum(report.applied for report in whole.reports("audit")) == 0


def test_the_plain_multilangdaemon_runs_a_shipped_properties_file(whole: Whole) -> None:
    """Without cdcctl: runs the command that kclpy's helper prints."""
    whole.parts.start("producer", ["producer", "run"])
    whole.shop.create()
    LeaseTable("cdc-search").seed(EARLIEST.seeds(list_shards("cdc")))  # the first start of the KCL takes two minutes
    scripts = Path(sys.executable).parent
    helper = [str(scripts / "amazon_kclpy_helper.py"), "--print_command", "--java", whole_java()]
    command = subprocess.run(
        [sys.executable, *helper, "--properties", "kcl_properties/search.properties"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    environ = {**os.environ, **whole.environ, "PATH": f"{scripts}:{os.environ['PATH']}", "CBOR_ENABLED": "false"}
    log = whole.folder / "logs" / "search.log"
    with log.open("w") as sink, subprocess.Popen(
        shlex.split(command), cwd=ROOT, env=environ, stdout=sink, stderr=sink, start_new_session=True
    ) as daemon:  # fmt: skip
        try:
            whole.wait_until_equal("search", seconds=150)
        finally:
            daemon.terminate()
    assert all(lease.checkpoint.isdigit() for lease in (LeaseTable("cdc-search").read() or {}).values())


def readme_steps() -> tuple[list[str], list[str]]:
    """The commands of the README's "By hand", in their order: those for each terminal, and the steps."""
    section = (ROOT / "README.md").read_text().partition("## By hand\n")[2].partition("\n## ")[0]
    blocks = [block for block in section.split("\n\n") if block.startswith("    ")]
    each, steps = ([line.strip() for line in block.splitlines()] for block in blocks[:2])
    return each, steps


@dataclass
class Terminals:
    """Shells that begin with the README's first lines; what runs until Ctrl-C goes on in one of its own."""

    folder: Path
    first: list[str]
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("CDC_", "AWS_"))}
        self.environ = {**clean, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        exported = self.shown("\n".join([*self.first, "env -0"]))
        self.environ = dict(line.split("=", 1) for line in exported.split("\0") if line)

    def shell(self, command: str) -> list[str]:
        return ["bash", "-c", command]

    def start(self, command: str) -> Path:
        log = self.folder / f"{len(self.running)}.log"
        with log.open("w") as sink:
            self.running.append(
                subprocess.Popen(
                    self.shell(f"exec {command}"), cwd=self.folder, env=self.environ, stdout=sink, stderr=sink
                )
            )
        return log

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.shell(command), cwd=self.folder, env=self.environ, capture_output=True, text=True, timeout=120,
            check=False,
        )  # fmt: skip

    def shown(self, command: str) -> str:
        done = self.run(command)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def wait(self, look: Callable[[], str], text: str) -> None:
        deadline = time.monotonic() + 90
        while text not in (found := look()):
            assert time.monotonic() < deadline, found
            time.sleep(0.5)

    def stop(self) -> None:
        for part in self.running:
            part.terminate()
        for part in self.running:
            part.wait(60)


@pytest.mark.timeout(480)
def test_the_steps_of_the_readme_show_a_row_and_a_change(folder: Path) -> None:
    """As a newcomer types them, in their order."""
    (activate, *first), steps = readme_steps()
    assert activate == "source .venv/bin/activate"
    terminals, tailed = Terminals(folder, first), folder
    try:
        for step in steps:
            command, _, remark = (part.strip() for part in step.partition("  #"))
            if "terminal" in remark:
                tailed = terminals.start(command)
            elif command.startswith("cdcctl search query"):
                while (found := terminals.run(command)).returncode:  # the consumer is still starting, and it says so
                    assert "cdcctl consumer run search" in found.stderr
                terminals.wait(partial(terminals.shown, command), "A first change")
                terminals.wait(tailed.read_text, "A first change")
            elif "jsonl" in command:
                titles = [json.loads(line)["after"]["title"] for line in terminals.shown(command).splitlines()]
                assert titles == ["A first row", "A first change"]
            else:
                if "UPDATE" in command:
                    terminals.wait(tailed.read_text, "A first row")
                terminals.shown(command)
            assert {part.poll() for part in terminals.running} <= {None}, "all run until they are stopped"
    finally:
        terminals.stop()
        assert run_cdcctl("local", "reset", "--yes", environ={}, folder=folder).returncode == 0


def whole_java() -> str:
    from consumers.kcl.java import find_java

    return find_java()


NOWHERE = {
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_MAX_ATTEMPTS": "1",
}  # fmt: skip
KEYS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}


@pytest.mark.parametrize(
    ("arguments", "environ", "status", "message"),
    [
        (["consumer", "run", "nope"], {}, 5, "unknown consumer 'nope'"),
        (["consumer", "run"], {}, 2, "give the name of one consumer"),
        (["consumer", "run", "search", "--java", "/no/java"], {**NOWHERE, **KEYS}, 5, "java"),
        (["tail"], NOWHERE, 4, "credentials"),
        (["tail", "--since", "soon"], {**NOWHERE, **KEYS}, 2, "not a time: 'soon'"),
        (["tail", "--since", "2999-01-01"], {**NOWHERE, **KEYS}, 2, "in the future"),
        (["tail"], {**NOWHERE, **KEYS}, 4, "127.0.0.1:9"),
        (["tail"], {}, 4, "AWS_REGION"),
        (["producer", "run"], {**NOWHERE, **KEYS}, 4, "127.0.0.1:9"),
        (["replay", "search", "--from", "later"], {**NOWHERE, **KEYS}, 2, "not a time"),
        (["search", "query", "x"], {}, 6, "cdcctl consumer run search"),
        (["parquet", "query", "select 1"], {}, 6, "cdcctl consumer run parquet"),
        (["audit", "history", "public.orders", "1"], {}, 6, "cdcctl consumer run audit"),
        (["local", "status"], {}, 1, "cdcctl local up"),
        (["config", "show", "--slot", "Bad Name"], {}, 2, "slot cannot be"),
        (["config", "show", "--config", "missing.toml"], {}, 2, "missing.toml"),
        (["nonsense"], {}, 2, "nonsense"),
    ],
)
def test_bad_input_is_one_clear_line_and_a_status(
    arguments: list[str], environ: dict[str, str], status: int, message: str, tmp_path: Path
) -> None:
    done = run_cdcctl(*arguments, environ={"HOME": str(tmp_path), **environ}, folder=tmp_path)
    assert done.returncode == status, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_source_that_is_not_configured_is_an_error_with_the_fix(whole: Whole) -> None:
    def producer(**changed: str) -> tuple[int, str]:
        done = whole.cdcctl("producer", "run", **changed)
        return done.returncode, done.stderr

    status, message = producer(CDC_STREAM="missing")
    assert status == 4
    assert "'missing'" in message
    assert "create-stream" in message
    status, message = producer(CDC_DSN="postgresql://cdc:secret-word@127.0.0.1:1/shop")
    assert status == 3
    assert "secret-word" not in message
    assert "127.0.0.1:1" in message
    whole.source.query("SELECT pg_create_logical_replication_slot('other', 'test_decoding')")
    status, message = producer(CDC_SLOT="other")
    assert status == 3
    assert "test_decoding" in message
    whole.source.query("ALTER SYSTEM SET wal_level = replica")
    whole.source.query("SELECT pg_drop_replication_slot('other'), pg_drop_replication_slot('cdc')")
    whole.source.close()
    whole.stack.cluster.stop()
    whole.stack.cluster.start()
    status, message = producer()
    assert status == 3
    assert "wal_level" in message
    assert "Traceback" not in message


def test_the_help_fits_one_screen_and_every_command_has_an_example(tmp_path: Path) -> None:
    top = run_cdcctl("--help", environ={"COLUMNS": "80", "HOME": str(tmp_path)}, folder=tmp_path)
    assert top.returncode == 0
    assert len(top.stdout.splitlines()) <= 48
    from cdcctl.main import build

    def leaves(command: object, path: tuple[str, ...]) -> list[tuple[tuple[str, ...], str]]:
        children = getattr(command, "commands", None)
        if children is None:
            return [(path, str(getattr(command, "help", "")))]
        return [leaf for name, child in children.items() for leaf in leaves(child, (*path, name))]

    commands = leaves(build(), ())
    assert len(commands) > 12
    assert [path for path, text in commands if "Example:" not in text] == []
