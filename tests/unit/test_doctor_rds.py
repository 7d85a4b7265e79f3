"""`doctor` on Amazon RDS, with responses in the format of the RDS API."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cdcctl.doctor.cloud import principal
from cdcctl.doctor.database import clock_finding
from cdcctl.doctor.finding import Level
from cdcctl.doctor.rds import check_rds
from cdckit.runtime.settings import Settings

HOST = "shop.abc.eu-central-1.rds.amazonaws.com"
GOOD = {
    "DBInstanceIdentifier": "shop", "Endpoint": {"Address": HOST}, "BackupRetentionPeriod": 7,
    "DBParameterGroups": [{"DBParameterGroupName": "shop15", "ParameterApplyStatus": "in-sync"}],
}  # fmt: skip


class Rds:
    """A client with the two paginated responses that the check uses."""

    def __init__(self, instance: Mapping[str, Any], parameters: Mapping[str, str]) -> None:
        self._pages = {
            "describe_db_instances": [{"DBInstances": []}, {"DBInstances": [instance]}],
            "describe_db_parameters": [
                {"Parameters": [{"ParameterName": name, "ParameterValue": value} for name, value in parameters.items()]}
            ],
        }

    def get_paginator(self, name: str) -> Any:
        pages = self._pages[name]

        class Paginator:
            def paginate(self, **_: str) -> Any:
                return pages

        return Paginator()


def levels(instance: Mapping[str, Any], parameters: Mapping[str, str]) -> dict[str, Level]:
    settings = Settings(dsn=f"postgresql://cdc@{HOST}/shop")
    return {finding.name: finding.level for finding in check_rds(settings, lambda: Rds(instance, parameters))}


def test_a_configured_instance_passes() -> None:
    assert levels(GOOD, {"rds.logical_replication": "1"}) == {"rds": Level.OK}


@pytest.mark.parametrize(
    ("change", "parameters", "name", "level"),
    [
        ({"BackupRetentionPeriod": 0}, {"rds.logical_replication": "1"}, "rds backups", Level.FAILED),
        ({}, {"rds.logical_replication": "0"}, "rds.logical_replication", Level.FAILED),
        ({}, {}, "rds.logical_replication", Level.FAILED),
        ({"DBParameterGroups": [{"DBParameterGroupName": "g", "ParameterApplyStatus": "pending-reboot"}]},
         {"rds.logical_replication": "1"}, "rds parameter group", Level.FAILED),
        ({"IAMDatabaseAuthenticationEnabled": True}, {"rds.logical_replication": "1"},
         "rds.iam_auth_for_replication", Level.WARNING),
        ({"Endpoint": {"Address": "other"}}, {}, "rds", Level.UNKNOWN),
    ],
)  # fmt: skip
def test_each_missing_setting_is_reported(
    change: dict[str, Any], parameters: dict[str, str], name: str, level: Level
) -> None:
    assert levels({**GOOD, **change}, parameters)[name] is level


def test_other_servers_are_not_checked() -> None:
    assert list(check_rds(Settings(dsn="postgresql://localhost/shop"), lambda: pytest.fail("queried"))) == []


def test_clocks_are_compared_between_two_readings() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    second = timedelta(seconds=1)
    assert clock_finding("c", now, now + second, now + 2 * second).level is Level.OK
    assert "5.0 s ahead" in clock_finding("c", now, now + 7 * second, now + 2 * second).found
    assert "5.0 s behind" in clock_finding("c", now, now - 5 * second, now + 2 * second).found


def test_the_policy_simulator_gets_roles_instead_of_sessions() -> None:
    assert principal("arn:aws:sts::123:assumed-role/cdc/session") == "arn:aws:iam::123:role/cdc"
    assert principal("arn:aws:iam::123:user/ann") == "arn:aws:iam::123:user/ann"
