"""Reads and checks ``[consumers.search]`` of ``cdc.toml``. Every error names the key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any
from urllib.parse import urlsplit

import msgspec

from cdckit.errors import UsageError
from consumers.search.column_filter import find_error
from consumers.search.mapping import IndexMapping, Rule, load_transform

ENGINES = ("sqlite", "opensearch")
TOKENIZERS = ("unicode61", "porter", "trigram")
_KEYS = ("engine", "url", "index", "tokenizer", "table", "exclude_table", "mapping", "refresh_seconds", "replicas")
_SECTION = "[consumers.search]"


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """The settings of the search satellite. `url`, `index`, `refresh_seconds` and `replicas` are for OpenSearch."""

    engine: str = "sqlite"
    url: str = ""
    index: str = "cdc-search"
    refresh_seconds: float = 1.0
    replicas: int = 1
    mapping: IndexMapping = field(default_factory=IndexMapping)


def read_options(options: Mapping[str, object], shadow: str = "") -> SearchOptions:
    """Check a settings table. Raises UsageError that names the section, the key and how to fix it.

    On OpenSearch a replay's `shadow` has its own index, ``INDEX-SHADOW``.
    """
    for key in options:
        if key not in _KEYS and (close := get_close_matches(key, _KEYS, 1, 0.8)):
            raise _wrong(key, "is unknown", f"did you mean {close[0]}?")
    return SearchOptions(
        engine=_one_of(options, "engine", ENGINES),
        url=_url(options),
        index=_index(options, shadow),
        refresh_seconds=_number(options, "refresh_seconds", 1.0),
        replicas=int(_number(options, "replicas", 1)),
        mapping=IndexMapping(
            _one_of(options, "tokenizer", TOKENIZERS),
            _globs(options, "table"),
            _globs(options, "exclude_table"),
            _rules(options.get("mapping", {})),
        ),
    )


def _one_of(options: Mapping[str, object], key: str, known: tuple[str, ...]) -> str:
    value = options.get(key, known[0])
    if value not in known:
        raise _wrong(key, f"cannot be {value!r}", f"use {' or '.join(known)}")
    return str(value)


def _url(options: Mapping[str, object]) -> str:
    value = options.get("url", "")
    if options.get("engine") != "opensearch":
        return str(value)
    example = 'write url = "https://search.example.com:9200"'
    if not isinstance(value, str) or urlsplit(value).scheme not in ("http", "https"):
        raise _wrong("url", f"cannot be {value!r}" if value else "is missing: engine is opensearch", example)
    return value


def _index(options: Mapping[str, object], shadow: str) -> str:
    value = options.get("index", "cdc-search")
    if not isinstance(value, str) or not re.fullmatch(r"[a-z0-9][a-z0-9_.\-]{0,199}", value):
        raise _wrong("index", f"cannot be {value!r}", "use lower-case letters, digits, '-', '_' and '.'")
    suffix = re.sub(r"[^a-z0-9]+", "-", shadow.lower()).strip("-")
    return f"{value}-{suffix}" if suffix else value


def _number(options: Mapping[str, object], key: str, default: float) -> float:
    value = options.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise _wrong(key, f"cannot be {value!r}", f"use a number, like {key} = {default:g}")
    return value


def _globs(options: Mapping[str, object], key: str) -> list[str]:
    value = options.get(key, [])
    globs = [glob.strip() for glob in value.split(",")] if isinstance(value, str) else value
    if not isinstance(globs, list) or not all(isinstance(glob, str) and glob for glob in globs):
        raise _wrong(key, f"cannot be {value!r}", f'write {key} = "public.orders, shop.*"')
    return [glob if "." in glob else f"public.{glob}" for glob in globs if glob != "*"]


def _rules(sections: object) -> dict[str, Rule]:
    if not isinstance(sections, Mapping):
        raise _wrong("mapping", "must be tables", 'write [consumers.search.mapping."public.orders"], its keys below it')
    return {
        name if "." in name or name == "*" else f"public.{name}": _rule(name, keys) for name, keys in sections.items()
    }


def _rule(name: str, keys: Any) -> Rule:
    where = f'mapping."{name}"'
    if not isinstance(keys, Mapping):
        raise _wrong(where, "must be a table", f"write [consumers.search.{where}], its keys below it")
    for key in keys:
        if key not in Rule.__struct_fields__:
            raise _wrong(f"{where}.{key}", "is unknown", f"known keys: {', '.join(Rule.__struct_fields__)}")
    try:
        rule = msgspec.convert({key: _listed(key, value) for key, value in keys.items()}, Rule)
    except msgspec.ValidationError as error:
        raise _wrong(where, f"cannot be used: {error}", 'columns are lists, like title = ["name"]') from error
    for column, condition in rule.filter.items():
        if wrong := find_error(condition):
            raise _wrong(
                f"{where}.filter.{column}", f"has {wrong}", 'write status = ["new", "paid"] or total = {ge = 100}'
            )
    if rule.transform:
        load_transform(rule.transform)
    return rule


def _listed(key: str, value: object) -> object:
    return [value] if isinstance(value, str) and key in ("title", "body", "tags", "facets", "exclude") else value


def _wrong(key: str, what: str, hint: str) -> UsageError:
    return UsageError(f"cdc.toml {_SECTION}: {key} {what}", hint)
