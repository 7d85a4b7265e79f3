"""Composes the daemon's properties for one consumer: its file, the current settings, endpoints, values for a laptop."""

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
    """The endpoint that the standard variables set for a service; None for AWS itself."""
    return environ.get(f"AWS_ENDPOINT_URL_{service.upper()}") or environ.get("AWS_ENDPOINT_URL") or None


def is_local(environ: Mapping[str, str]) -> bool:
    """Whether Kinesis is served from this machine."""
    url = endpoint("kinesis", environ)
    return url is not None and urlsplit(url).hostname in _LOOPBACK


def renewal_seconds(environ: Mapping[str, str]) -> float:
    """How long to watch the leases to find live workers: each of them renews its leases more often."""
    return 2.0 if is_local(environ) else 5.0


def parse(text: str) -> dict[str, str]:
    """Read ``key = value`` lines; skips comments and blank lines."""
    lines = (line.strip() for line in text.splitlines())
    pairs = (line.partition("=") for line in lines if line and not line.startswith(("#", "!")))
    return {key.strip(): value.strip() for key, _, value in pairs}


def read_file(name: str) -> dict[str, str]:
    """The properties in a consumer's file: ``NAME.properties`` in the working folder or its ``kcl_properties``.

    Without one there, the shipped file of that name; without that, the shipped file of search.
    """
    shipped = files("kcl_properties")
    places = (Path(), Path("kcl_properties"), shipped)
    own = next((place / f"{name}.properties" for place in places if (place / f"{name}.properties").is_file()), None)
    found = own or shipped / "search.properties"
    return {**parse(found.read_text()), "executableName": f"cdc-consumer {name}"}


def worker_id(name: str, worker: int) -> str:
    """The KCL worker id of the daemon with this number on this host; the same at every start."""
    return f"{socket.gethostname()}-{name}-{worker}"


def compose(
    name: str, settings: Settings, executable: str, worker: int, extra: Mapping[str, str] | None = None
) -> dict[str, str]:
    """All properties of one daemon. `worker` is the daemon's number among this consumer's on this host.

    The worker id stays the same over restarts: with a new id, the KCL waits two minutes for a killed leader's lock.
    """
    environ = os.environ
    properties = read_file(name) | {
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
    if "initialPositionInStreamExtended" in properties:  # the KCL accepts only one of the two
        properties.pop("initialPositionInStream", None)
    return properties


def render(properties: Mapping[str, str]) -> str:
    """The properties as the text of a file."""
    return "".join(f"{key} = {value}\n" for key, value in properties.items())
