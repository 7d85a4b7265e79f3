"""What an IAM policy allows, for tests: actions and resources by their wildcards; conditions are taken as met."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tests.support.wire_tap import Call


def allows(policy: Mapping[str, Any], call: Call) -> bool:
    """Whether a statement allows the call."""
    return any(_covers(action, resource, call) for _, action, resource in pairs(policy))


def unused(policy: Mapping[str, Any], calls: Iterable[Call]) -> set[str]:
    """``Sid action`` that none of the calls needs."""
    seen = list(calls)
    return {
        f"{sid} {action}"
        for sid, action, resource in pairs(policy)
        if not any(_covers(action, resource, call) for call in seen)
    }


def pairs(policy: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Each statement's name, and each action with each resource that it is allowed on."""
    for statement in policy["Statement"]:
        assert statement["Effect"] == "Allow"
        for action in _list(statement["Action"]):
            for resource in _list(statement["Resource"]):
                yield statement.get("Sid", ""), action, resource


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


_FORMS = {"kinesis": "stream/{}", "dynamodb": "table/{}", "secretsmanager": "secret:{}-abcdef", "es": "domain/{}"}


def _covers(action: str, resource: str, call: Call) -> bool:
    """`call` names no account and region, so the ARN's end is compared."""
    if action != call.action:
        return False
    named = _FORMS.get(action.partition(":")[0], "{}").format(call.resource)
    return not call.resource or resource == "*" or fnmatch.fnmatchcase(named, resource.split(":", 5)[5])
