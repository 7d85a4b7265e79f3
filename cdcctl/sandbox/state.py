"""Starts, finds and stops the sandbox as a whole; a file stores its ports and process ids."""

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
    """The private PostgreSQL and the local AWS of one folder, running or stopped."""

    folder: Path
    cluster: postgres.Cluster
    cloud: aws.LocalAws
    daemon: Daemon
    others: Mapping[str, Daemon] = field(default_factory=dict)
    """Other processes that stop with the stack (the demo's producer and consumers)."""

    @property
    def environ(self) -> dict[str, str]:
        """The variables that make cdcctl, the KCL, psql and the AWS CLI use this stack."""
        return {"CDC_DSN": self.cluster.dsn, "CDC_CHECKPOINT_SECONDS": "1", **self.cloud.environ}

    @property
    def running(self) -> Mapping[str, bool]:
        """Whether each part runs."""
        return {"postgres": self.cluster.running, "aws": self.daemon.alive and listening(self.cloud.port)}

    def stop(self) -> None:
        """Stop the other processes, then both servers; their data stays for the next `up`."""
        for daemon in self.others.values():
            daemon.terminate()
        for daemon in self.others.values():
            daemon.stop(25)
        self.daemon.stop()
        self.cluster.stop()


def up(folder: Path, settings: Settings) -> Stack:
    """Start the parts that do not run; create the stream (two shards) and the slot if they do not exist.

    The slot is created here, so that changes made before the first `producer run` are published too.
    """
    known = find(folder)
    if known is not None and all(known.running.values()):
        return known
    if known is not None:
        known.stop()
    cloud = _on_free_port(known.cloud if known else aws.create(folder / "aws"))
    with ThreadPoolExecutor(1) as pool:  # start both in parallel: each takes some seconds
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
    _save(stack)
    _create_stream(stack, settings.stream)
    _create_slot(stack, settings.slot)
    return stack


def reset(folder: Path) -> None:
    """Stop and delete the stack, also a cluster in another folder; does nothing if there is none."""
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
    others = {name: Daemon(entry["pid"], entry["started"]) for name, entry in known.get("others", {}).items()}
    return Stack(folder, cluster, cloud, Daemon(known["aws"]["pid"], known["aws"]["started"]), others)


def adopt(stack: Stack, others: Mapping[str, Daemon]) -> None:
    """Store processes that `stop` must stop with the stack."""
    _save(replace(stack, others=others))


def _start_cluster(cluster: postgres.Cluster) -> postgres.Cluster:
    if listening(cluster.port):
        cluster = postgres.Cluster(cluster.folder, free_port())
    cluster.start()
    return cluster


def _on_free_port(cloud: aws.LocalAws) -> aws.LocalAws:
    return aws.LocalAws(cloud.folder, free_port()) if listening(cloud.port) else cloud


def _save(stack: Stack) -> None:
    known = {
        "postgres": {"folder": str(stack.cluster.folder), "port": stack.cluster.port},
        "aws": {"port": stack.cloud.port, "pid": stack.daemon.pid, "started": stack.daemon.started},
        "others": {name: {"pid": daemon.pid, "started": daemon.started} for name, daemon in stack.others.items()},
    }
    (stack.folder / "stack.json").write_text(json.dumps(known, indent=2) + "\n")


def _create_slot(stack: Stack, name: str) -> None:
    source = Source(stack.cluster.dsn)
    try:
        if find_slot(source, name) is None:
            create_slot(source, name)
    finally:
        source.close()


def _create_stream(stack: Stack, name: str) -> None:
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
