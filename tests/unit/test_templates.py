"""Checks the text of the CloudFormation templates: the linter passes, no needless wildcards, no secrets."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cfnlint.decode import decode

DEPLOY = Path(__file__).parent.parent.parent / "deploy"
TEMPLATES = sorted(DEPLOY.glob("*.yaml"))
STARS = {"NetworkInterfaces", "Metrics", "Token"}
"""Statements whose actions have no resource-level permissions in EC2, CloudWatch and ECR."""


def test_cfn_lint_finds_nothing() -> None:
    result = subprocess.run(
        [str(Path(sys.executable).with_name("cfn-lint")), *map(str, TEMPLATES)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.stdout, result.stderr, result.returncode) == ("", "", 0)


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_a_wildcard_is_used_only_where_it_is_required(path: Path) -> None:
    for statement in allowed(decode(str(path))[0]):
        actions, resource = statement["Action"], statement.get("Resource")
        assert "*" not in str(actions)
        assert resource != "*" or statement["Sid"] in STARS, statement


def allowed(node: Any) -> Iterator[Any]:
    """Every statement with the effect Allow, at any depth."""
    if isinstance(node, dict):
        if node.get("Effect") == "Allow":
            yield node
        for value in node.values():
            yield from allowed(value)
    elif isinstance(node, list):
        for value in node:
            yield from allowed(value)


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_no_parameter_takes_a_secret_and_no_file_holds_one(path: Path) -> None:
    text = path.read_text()
    parameters = decode(str(path))[0]["Parameters"]
    assert not [name for name in parameters if re.search("password|secret(?!arn)|token|accesskey", name, re.IGNORECASE)]
    assert not re.search(r"AKIA[0-9A-Z]{16}|password\s*[=:]\s*\S|postgresql://\S+:\S+@", text, re.IGNORECASE)
