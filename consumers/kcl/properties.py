"""The daemon's properties of one consumer: its shipped file, the settings in force, endpoints, laptop values."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from urllib.parse import urlsplit

from cdckit.runtime.settings import Settings

_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


def endpoint(service: str, environ: Mapping[str, str]) -> str | None:
    """The endpoint that the standard variables name for a service, or None for AWS itself."""
    return environ.get(f"AWS_ENDPOINT_URL_{service.upper()}") or environ.get("AWS_ENDPOINT_URL") or None


def is_local(environ: Mapping[str, str]) -> bool:
    """Whether Kinesis is served from this machine."""
    url = endpoint("kinesis", environ)
    return url is not None and urlsplit(url).hostname in _LOOPBACK


def renewal_seconds(environ: Mapping[str, str]) -> float:
    """A live worker renews each of its leases more often than that: long enough to watch for a look at who is alive."""
    return 2.0 if is_local(environ) else 5.0


def parse(text: str) -> dict[str, str]:
    """Read ``key = value`` lines; comments and blank lines are passed over."""
    lines = (line.strip() for line in text.splitlines())
    pairs = (line.partition("=") for line in lines if line and not line.startswith(("#", "!")))
    return {key.strip(): value.strip() for key, _, value in pairs}


def shipped(name: str) -> dict[str, str]:
    """A consumer's own file: ``NAME.properties`` in the working folder or its ``kcl_properties``, else the shipped one.

    A consumer without any starts from search's, as its own.
    """
    shipped_here = files("kcl_properties")
    places = (Path(), Path("kcl_properties"), shipped_here)
    own = next((place / f"{name}.properties" for place in places if (place / f"{name}.properties").is_file()), None)
    found = own or shipped_here / "search.properties"
    return {**parse(found.read_text()), "executableName": f"cdc-consumer {name}"}


def worker_id(name: str, worker: int) -> str:
    """The KCL worker's id of the daemon of this number on this host: the same at every start."""
    return f"{socket.gethostname()}-{name}-{worker}"


def compose(
    name: str, settings: Settings, executable: str, worker: int, extra: Mapping[str, str] | None = None
) -> dict[str, str]:
    """All properties of one daemon. `worker` numbers the daemons of this consumer on this host.

    The worker's id is stable over restarts: with a new one, the KCL waits two minutes for a killed leader's lock.
    """
    environ = os.environ
    properties = shipped(name) | {
        "executableName": executable,
        "streamName": settings.stream,
        "applicationName": settings.application(name),
        "workerId": worker_id(name, worker),
    }
    if region := environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION"):
        properties["regionName"] = region
    for key, service in (("kinesisEndpoint", "kinesis"), ("dynamoDBEndpoint", "dynamodb")):
        if url := endpoint(service, environ):
            properties[key] = url
    if is_local(environ):
        properties |= parse((files("kcl_properties") / "laptop.properties").read_text())
    properties |= dict(extra or {})
    if "initialPositionInStreamExtended" in properties:  # the KCL takes one of the two
        properties.pop("initialPositionInStream", None)
    return properties


def render(properties: Mapping[str, str]) -> str:
    """The file's text."""
    return "".join(f"{key} = {value}\n" for key, value in properties.items())
