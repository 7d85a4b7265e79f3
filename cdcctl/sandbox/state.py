"""The local stack as a whole: starts it, remembers it in a file, finds it again, stops it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import boto3

from cdcctl.sandbox import aws, postgres
from cdcctl.sandbox.processes import Daemon, free_port, listening
from cdckit.errors import CdcError
from cdckit.runtime.settings import Settings
from producer.postgres.connection import Source
from producer.postgres.slots import create_slot, find_slot

SHARDS = 2


@dataclass(frozen=True, slots=True)
class Stack:
    """A private PostgreSQL and a local AWS, as they run (or ran)."""

    folder: Path
    cluster: postgres.Cluster
    cloud: aws.LocalAws
    daemon: Daemon
    others: Mapping[str, Daemon] = field(default_factory=dict)
    """What else runs on the stack and ends with it (the demo's producer and consumers)."""

    @property
    def environ(self) -> dict[str, str]:
        """The variables that make cdcctl, the KCL, psql and the AWS CLI use this stack."""
        return {"CDC_DSN": self.cluster.dsn, "CDC_CHECKPOINT_SECONDS": "1", **self.cloud.environ}

    @property
    def running(self) -> Mapping[str, bool]:
        """Whether each part runs."""
        return {"postgres": self.cluster.running, "aws": self.daemon.alive and listening(self.cloud.port)}

    def stop(self) -> None:
        """Stop both, and what runs on them first; their data stays, so that `up` finds it again."""
        for other in self.others.values():
            other.terminate()
        for other in self.others.values():
            other.stop(25)
        self.daemon.stop()
        self.cluster.stop()


def up(folder: Path, settings: Settings) -> Stack:
    """Start what does not run; make the stream (two shards) and the slot when they are missing.

    The slot is made here, so that changes made before the first `producer run` are published too.
    """
    known = find(folder)
    if known is not None and all(known.running.values()):
        return known
    if known is not None:
        known.stop()
    cloud = _on_free_port(known.cloud if known else aws.create(folder / "aws"))
    with ThreadPoolExecutor(1) as pool:  # the two take some seconds each, and neither needs the other
        starting = pool.submit(cloud.start)
        try:
            cluster = _start_cluster(known.cluster if known else postgres.create(folder / "postgres"))
        except BaseException:
            with suppress(CdcError):
                starting.result().stop()
            raise
    try:
        stack = Stack(folder, cluster, cloud, starting.result())
    except BaseException:
        cluster.stop()
        raise
    _remember(stack)
    _make_stream(stack, settings.stream)
    _make_slot(stack, settings.slot)
    return stack


def reset(folder: Path) -> None:
    """Stop what runs and delete all of it, also a cluster that lies elsewhere; no error when there is nothing."""
    known = find(folder)
    if known is not None:
        known.stop()
        known.cluster.remove()
    shutil.rmtree(postgres.home(folder / "postgres"), ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)


def find(folder: Path) -> Stack | None:
    """The stack that was started in `folder`, or None."""
    try:
        known = json.loads((folder / "stack.json").read_text())
    except FileNotFoundError:
        return None
    cluster = postgres.Cluster(Path(known["postgres"]["folder"]), known["postgres"]["port"])
    cloud = aws.LocalAws(folder / "aws", known["aws"]["port"])
    others = {name: Daemon(one["pid"], one["started"]) for name, one in known.get("others", {}).items()}
    return Stack(folder, cluster, cloud, Daemon(known["aws"]["pid"], known["aws"]["started"]), others)


def adopt(stack: Stack, others: Mapping[str, Daemon]) -> None:
    """Remember processes that `stop` must end with the stack."""
    _remember(replace(stack, others=others))


def _start_cluster(cluster: postgres.Cluster) -> postgres.Cluster:
    if listening(cluster.port):
        cluster = postgres.Cluster(cluster.folder, free_port())
    cluster.start()
    return cluster


def _on_free_port(cloud: aws.LocalAws) -> aws.LocalAws:
    return aws.LocalAws(cloud.folder, free_port()) if listening(cloud.port) else cloud


def _remember(stack: Stack) -> None:
    known = {
        "postgres": {"folder": str(stack.cluster.folder), "port": stack.cluster.port},
        "aws": {"port": stack.cloud.port, "pid": stack.daemon.pid, "started": stack.daemon.started},
        "others": {name: {"pid": one.pid, "started": one.started} for name, one in stack.others.items()},
    }
    (stack.folder / "stack.json").write_text(json.dumps(known, indent=2) + "\n")


def _make_slot(stack: Stack, name: str) -> None:
    source = Source(stack.cluster.dsn)
    try:
        if find_slot(source, name) is None:
            create_slot(source, name)
    finally:
        source.close()


def _make_stream(stack: Stack, name: str) -> None:
    environ = stack.cloud.environ
    client = boto3.client(
        "kinesis",
        endpoint_url=stack.cloud.url,
        region_name=environ["AWS_REGION"],
        aws_access_key_id=environ["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environ["AWS_SECRET_ACCESS_KEY"],
    )
    if name not in client.list_streams()["StreamNames"]:
        client.create_stream(StreamName=name, ShardCount=SHARDS)
    client.get_waiter("stream_exists").wait(StreamName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 30})
